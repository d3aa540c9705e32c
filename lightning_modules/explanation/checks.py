"""Whether explanations can be trusted.

They must depend on what was learnt, and foresee what a model answers when pieces are left out.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lightning_modules.explanation.explained_rows import ExplainedRows
from lightning_modules.explanation.explainer import ExplainedBatch
from lightning_modules.explanation.ranks import rank_correlation
from lightning_modules.task_network import TaskNetwork
from lightning_modules.wide_path import FittedBuffers

LEAST_PIECES = 4  # of a row that is left out piece by piece
SHARES = (0.1, 0.2, 0.4, 0.6, 0.8)  # of the pieces that are left out, or kept alone
RANDOM_ORDERS = 3
ALIKE = 0.5  # rank correlation with a network of shuffled weights that is too large


@dataclass
class Check:
    """What the checks of one task's explanations of one modality found.

    shuffled: rank correlation of each row's explanation with that of a network whose weights are
        shuffled; near 0 if explanations are of what was learnt. Source: Adebayo et al. 2018.
    deletion, insertion: how much more the score falls, and is reached, when pieces are left out, or
        put back, by what they add, than in random order; > 0 is better. Source: Petsiuk et al.
        2018, section 3.2, with the score in place of a probability.
    """

    task: str
    modality: str
    shuffled: list[float] = field(default_factory=list)
    deletion: list[float] = field(default_factory=list)
    insertion: list[float] = field(default_factory=list)

    @property
    def depends_on_weights(self) -> bool | None:
        """Whether explanations change with the weights; None: no row says it."""
        return mean(self.shuffled) < ALIKE if self.shuffled else None

    @property
    def beats_random(self) -> bool | None:
        """Whether both curves are better than random by more than their standard error."""
        if not self.deletion:
            return None
        return all(mean(own) > standard_error(own) for own in (self.deletion, self.insertion))


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def standard_error(values: Sequence[float]) -> float:
    """Return the standard error of the mean, 0 of one value."""
    if len(values) < 2:
        return 0.0
    return torch.tensor(values, dtype=torch.float64).std().item() / math.sqrt(len(values))


def shuffled_network(network: TaskNetwork, generator: torch.Generator) -> TaskNetwork:
    """Return a copy with the numbers of each weight in random order: nothing is learnt."""
    found = copy.deepcopy(network)
    fitted = [m.get_buffer("table") for m in found.modules() if isinstance(m, FittedBuffers)]
    weights: list[Tensor] = [*found.parameters(), *fitted]
    with torch.no_grad():
        for weight in weights:
            order = torch.randperm(weight.numel(), generator=generator).to(weight.device)
            weight.copy_(weight.flatten()[order].view_as(weight))
    return found


def check_explanations(
    batch: ExplainedBatch, shuffled: ExplainedRows, steps: int, generator: torch.Generator
) -> list[Check]:
    """Check some explanations, modality by modality.

    Args:
        batch: the explanations, and their rows.
        shuffled: the same rows, answered by ``shuffled_network``.
        steps: as for ``ExplainedRows.attribute``.
        generator: of random orders.
    """
    if not batch.explanations:
        return []
    answers = [one.answer for one in batch.explanations]
    again = shuffled.attribute(answers, batch.places, steps)
    found = []
    for modality in batch.explanations[0].pieces:
        own = [one.pieces[modality] for one in batch.explanations]
        check = Check(batch.rows.explained.name, modality)
        alike = [rank_correlation(a, b) for a, b in zip(own, again[modality], strict=True)]
        check.shuffled = [
            one
            for one, pieces in zip(alike, own, strict=True)
            if one is not None and pieces.numel() >= LEAST_PIECES
        ]
        check.deletion, check.insertion = curve_gains(batch, modality, generator)
        found.append(check)
    return found


def curve_gains(
    batch: ExplainedBatch, modality: str, generator: torch.Generator
) -> tuple[list[float], list[float]]:
    """Return by how much deletion and insertion are better than in random order, row by row.

    A curve is the mean score where the first 10, 20, 40, 60 or 80 % of a row's pieces are left out,
    or are the only ones that are kept; other modalities stay.
    """
    chosen = [
        number
        for number, one in enumerate(batch.explanations)
        if one.pieces[modality].numel() >= LEAST_PIECES
    ]
    if not chosen:
        return [], []
    explained = [batch.explanations[number] for number in chosen]
    pieces = [one.pieces[modality] for one in explained]
    answers = [one.answer for one in explained]
    places = [batch.places[number] for number in chosen]

    def score(first: Sequence[Tensor], share: float, keeps: bool) -> Tensor:
        kept = [mask_of(order, own, share, keeps) for order, own in zip(first, pieces, strict=True)]
        return batch.rows.score_of(answers, places, {modality: kept}).double()

    def curve(first: Sequence[Tensor], keeps: bool) -> Tensor:
        return torch.stack([score(first, share, keeps) for share in SHARES]).mean(dim=0)

    ranked = [one.flatten().argsort(descending=True) for one in pieces]
    deletion, insertion = curve(ranked, keeps=False), curve(ranked, keeps=True)
    random_deletion, random_insertion = torch.zeros_like(deletion), torch.zeros_like(insertion)
    for _ in range(RANDOM_ORDERS):
        order = [torch.randperm(one.numel(), generator=generator) for one in pieces]
        random_deletion += curve(order, keeps=False) / RANDOM_ORDERS
        random_insertion += curve(order, keeps=True) / RANDOM_ORDERS
    return (random_deletion - deletion).tolist(), (insertion - random_insertion).tolist()


def mask_of(order: Tensor, pieces: Tensor, share: float, keeps: bool) -> Tensor:
    """Return 1 for pieces that are kept, 0 for others, of the pieces' shape.

    Args:
        order: (P,) of the pieces.
        share: of them, the first of the order.
        keeps: whether these are kept, and all others left out; or the other way round.
    """
    count = max(1, round(share * len(order)))
    mask = torch.full((len(order),), 0.0 if keeps else 1.0)
    mask[order[:count]] = 1.0 if keeps else 0.0
    return mask.view_as(pieces)

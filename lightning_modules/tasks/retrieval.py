"""Retrieval: which text belongs to which picture."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics import Metric, MetricCollection
from torchmetrics.utilities import dim_zero_cat

from datamodules.labelled_task import EncodedTargets
from lightning_modules.distributed import gather_rows
from lightning_modules.tasks.answer_scores import MatchScores
from lightning_modules.tasks.base import Label, TargetForm, Task
from lightning_modules.views import PairView
from pollinate.errors import PollinateError, UsageError

CHUNK = 1024  # rows whose similarities to all others are in memory at a time


def partner_ranks(queries: Tensor, targets: Tensor) -> Tensor:
    """Return how many targets lie before each query's own: (N, E), (N, E) -> (N,) float64.

    Targets as similar as the right one count half, so that equal vectors rank in the middle.
    """
    found = []
    for start in range(0, len(queries), CHUNK):
        similar = queries[start : start + CHUNK] @ targets.T
        own = similar.diagonal(start)[:, None]
        better, equal = (similar > own).sum(dim=1), (similar == own).sum(dim=1) - 1
        found.append(better.double() + equal.double() / 2)
    return torch.cat(found) if found else queries.new_zeros(0, dtype=torch.float64)


class Recall(Metric):
    """Share of rows whose partner is among the k most similar of all rows, mean of both ways.

    Args:
        k: >= 1.
        width: E of the vectors, >= 1.
    """

    full_state_update = False
    higher_is_better = True

    def __init__(self, k: int, width: int) -> None:
        super().__init__()
        self.k = k
        self.width = width
        # flat: a process without rows gives an empty list, for which torchmetrics sends shape (0,)
        self.add_state("pairs", [], dist_reduce_fx="cat")
        self.pairs: list[Tensor] | Tensor

    def update(self, output: Tensor, target: Tensor) -> None:
        """Add pairs of vectors: (N, 2, E)."""
        assert isinstance(self.pairs, list)  # a tensor only while the processes compute
        self.width = output.shape[-1]  # of an ensemble, those of all members together
        self.pairs.append(output.detach().float().flatten())

    def compute(self) -> Tensor:
        """Return the share over all pairs that were added."""
        if not len(self.pairs):
            return torch.zeros(())
        first, second = dim_zero_cat(self.pairs).view(-1, 2, self.width).unbind(dim=1)
        both = torch.cat([partner_ranks(first, second), partner_ranks(second, first)])
        return (both < self.k).double().mean()


class BatchRecall(Metric):
    """``Recall`` among the rows of each update alone, on all processes, which needs no memory.

    Attributes:
        collective: every process must call ``update``, also without rows.
    """

    full_state_update = False
    higher_is_better = True
    collective = True

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = k
        for name in ("hits", "rows"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.hits: Tensor
        self.rows: Tensor

    def update(self, output: Tensor, target: Tensor) -> None:
        """Add pairs of vectors: (N, 2, E)."""
        pairs, start = gather_rows(output.detach().float())
        first, second = pairs.unbind(dim=1)
        own = slice(start, start + len(output))
        both = torch.cat([partner_ranks(first, second)[own], partner_ranks(second, first)[own]])
        self.hits += (both < self.k).sum()
        self.rows += len(both)

    def compute(self) -> Tensor:
        return self.hits / self.rows.clamp(min=1)


RECALLS = (1, 5, 10)
HIGHEST = 100.0  # of the factor on the similarities, as in the paper


class Retrieval(Task):
    """Contrastive pairs: L_i = -1/2 (log softmax_j(t a_i b_j)_i + log softmax_j(t a_j b_i)_i).

    a and b are linear maps of the two modalities' features, of length 1; t <= 100 is learnt. The
    other rows of the step, on all processes, are the wrong partners. Every row that has both
    modalities is labelled; there is no target column. Source: CLIP, Radford et al. 2021, figure 3.

    Args:
        dataset, unlabelled: as for ``Task``.
        target: None, as there are no labels.
        modalities: the two.
        width: size of an embedding, >= 1.
        temperature: 1 / t at the start, > 0.

    Examples:
        >>> import torch, pollinate as po
        >>> task = po.tasks.Retrieval("photos", modalities=["image", "text"], width=4)
        >>> pairs = torch.eye(4)[:3, None].expand(3, 2, 4)  # of 3 rows: image and text agree
        >>> task.loss(pairs, torch.zeros(3)).shape
        torch.Size([3])
        >>> metrics = task.metrics()
        >>> metrics.update(pairs, torch.zeros(3))
        >>> {name: value.item() for name, value in metrics.compute().items()}["recall_1"]
        1.0
    """

    score = "recall_5"

    def __init__(
        self,
        dataset: str | Sequence[str] | None = None,
        target: None = None,
        *,
        modalities: Sequence[str] = ("image", "text"),
        width: int = 64,
        temperature: float = 0.07,
        unseen: str = "refuse",
        unlabelled: str | Sequence[str] = (),
    ) -> None:
        super().__init__(dataset, target, unseen=unseen, unlabelled=unlabelled)
        if target is not None:
            raise UsageError(f"target must be left out, as pairs have no labels, got {target!r}")
        if len(set(modalities)) != 2 or len(modalities) != 2:
            raise UsageError(f"modalities must be two different ones, got {list(modalities)}")
        if width < 1:
            raise UsageError(f"width must be >= 1, got {width}")
        if not temperature > 0:
            raise UsageError(f"temperature must be > 0, got {temperature}")
        self.modalities = tuple(modalities)
        self.width = width
        self.temperature = temperature
        self.view = PairView(self.modalities)
        self.rows = 0

    def learn(self, values: Iterable[Any]) -> None:
        """Count the rows that have both modalities.

        Raises:
            PollinateError: fewer than two.
        """
        self.rows = sum(bool(value) for value in values)
        if self.rows < 2:
            raise PollinateError(
                f"at least two training rows must have {' and '.join(self.modalities)}, "
                f"got {self.rows}"
            )

    def encode(self, values: Iterable[Any]) -> EncodedTargets:
        """Return which rows have both modalities; the targets (N,) say nothing."""
        present = torch.tensor([bool(value) for value in values], dtype=torch.bool)
        return EncodedTargets(torch.zeros(len(present), dtype=torch.int64), present)

    def target_form(self) -> TargetForm:
        """Return any number: which rows are pairs is all that counts."""
        return TargetForm("a number per row (N,)", True)

    def head(self, dim: int) -> nn.Module:
        """Return two linear maps to vectors of length 1."""
        return Embeddings(dim, self.width, self.temperature)

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the loss of pairs of vectors (N, 2, E): (N,)."""
        pairs, start = gather_rows(output.to(torch.promote_types(output.dtype, torch.float32)))
        if not len(output):
            return output.sum(dim=(1, 2))
        lacking = pairs.eq(0).all(dim=-1).any(dim=-1)  # rows without one of the two
        own = torch.arange(start, start + len(output), device=output.device)
        mine = pairs[start : start + len(output)]
        total = pairs.new_zeros(len(output))
        for side in (0, 1):
            similar = mine[:, side] @ pairs[:, 1 - side].T
            blind = lacking.expand_as(similar).scatter(1, own[:, None], False)
            masked = similar.masked_fill(blind, -math.inf)
            total = total + functional.cross_entropy(masked, own, reduction="none") / 2
        return total

    def metrics(self) -> MetricCollection:
        """Return recall at 1, 5 and 10 among all rows of a split."""
        found = [Recall(k, self.width) for k in RECALLS]
        return MetricCollection(
            {f"recall_{metric.k}": metric for metric in found}, compute_groups=False
        )

    def training_metric(self) -> Metric:
        """Return recall among the rows of a step."""
        return BatchRecall(5)

    def decode(self, output: Tensor) -> list[Label]:
        """Return the vectors of length 1 by modality, None for one that the row lacks."""
        vectors = functional.normalize(output.float(), dim=-1).tolist()
        return [
            {
                "embeddings": {
                    name: vector if any(vector) else None
                    for name, vector in zip(self.modalities, pair, strict=True)
                }
            }
            for pair in vectors
        ]

    def ensemble_output(self, outputs: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return vectors whose products are the means of the models': (N, 2, M E)."""
        if weights is None:
            weights = outputs.new_full((len(outputs),), 1 / len(outputs))
        return torch.cat((outputs * weights.to(outputs).sqrt().view(-1, 1, 1, 1)).unbind(), dim=-1)

    def answer_scores(self) -> MatchScores:
        return MatchScores(self.modalities)

    def cells(self, answer: Label | None) -> dict[str, Any]:
        """Return each modality's vector as JSON."""
        known = (answer or {}).get("embeddings", {})
        vectors = {name: known.get(name) for name in self.modalities}
        return {f"_{name}": None if v is None else json.dumps(v) for name, v in vectors.items()}

    def cell_types(self) -> dict[str, type]:
        return {f"_{name}": str for name in self.modalities}

    def baseline(self, target: Tensor) -> dict[str, float]:
        count = len(target)
        return {f"recall_{k}": min(1.0, k / count) for k in RECALLS} if count else {}

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rows = state["rows"]


class Embeddings(nn.Module):
    """W_m x / |W_m x| for each of two modalities; both come times sqrt(t)."""

    def __init__(self, dim: int, width: int, temperature: float) -> None:
        super().__init__()
        self.maps = nn.ModuleList([nn.Linear(dim, width) for _ in range(2)])
        self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature)))

    def forward(self, rows: Tensor, side: int) -> Tensor:
        """Embed rows (N, dim) of the modality on one side, 0 or 1: (N, width)."""
        unit = functional.normalize(self.maps[side](rows), dim=-1)
        half = (self.log_scale.clamp(max=math.log(HIGHEST)) / 2).exp()
        embedded: Tensor = half * unit  # both sides' halves make t
        return embedded

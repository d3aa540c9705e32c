"""Sets of classes: adaptive, regularised, and contiguous for ordered classes."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any, ClassVar, Self

import torch
from torch import Tensor
from torch.nn import functional

from datamodules.counter_rng import uniforms
from lightning_modules.conformal.base import ConformalPredictor, Coverage

TUNED_FOR = 0.9  # coverage whose sets are made small, at least
PENALTIES = (0.0, 0.001, 0.01, 0.1, 0.5)
STEP = 1e3  # of logits that tell rows apart, one over it


def row_uniform(output: Tensor) -> Tensor:
    """Return a number in [0, 1) for each row, drawn by the row's outputs (N, C) alone: (N,).

    So that a row has the same set whenever it is asked for, and whatever the rows beside it.
    """
    steps = (output.detach().double().cpu() * STEP).round().long().numpy()
    return torch.from_numpy(uniforms(0, *steps.T, count=1)[:, 0]).to(output.device)


class OptionSets(ConformalPredictor):
    """Sets of the classes whose score is at most the threshold.

    Args:
        classes: names of the C classes.
        empty: whether a set may be empty. If not, a set holds one class at least: then a model that
            is right more often than the coverage asked has a higher one.

    Examples:
        >>> import pollinate as po
        >>> isinstance(po.conformal.LabelSets(["food", "price"]), po.conformal.OptionSets)
        True
    """

    def __init__(self, classes: Sequence[str], empty: bool = False) -> None:
        super().__init__()
        self.classes = tuple(classes)
        self.empty = empty

    @abstractmethod
    def class_scores(self, output: Tensor) -> Tensor:
        """Return the score of each class: (N, C)."""

    def sets(self, output: Tensor, coverage: float, per_class: bool = False) -> Tensor:
        """Return which classes are in each row's set: (N, C) bool."""
        scores = self.class_scores(output).float()  # as precise as those that are kept
        limit = self.class_thresholds(coverage) if per_class else self.threshold(coverage)
        found: Tensor = scores <= (limit.to(scores) if isinstance(limit, Tensor) else limit)
        if not self.empty and scores.shape[1]:
            found = found.scatter(1, scores.argmin(dim=1, keepdim=True), value=True)
        return found

    def answers(
        self, output: Tensor, coverage: float, per_class: bool = False
    ) -> list[dict[str, Any]]:
        """Return {"set": names of the classes}, the likeliest first."""
        order = self.class_scores(output).argsort(dim=1, stable=True)
        inside = self.sets(output, coverage, per_class).gather(1, order)
        members = map(self.classes.__getitem__, order[inside].tolist())  # one row after the other
        return [{"set": list(islice(members, size))} for size in inside.sum(dim=1).tolist()]

    def cell_types(self) -> dict[str, type]:
        return {"_set": str}

    def cells(self, answer: Mapping[str, Any]) -> dict[str, Any]:
        """Return the set as JSON."""
        found = answer.get("set")
        return {"_set": None if found is None else json.dumps(found, ensure_ascii=False)}


class AdaptiveSets(OptionSets):
    """Score of the class at place r of an order: sum_{j < r} p_j + u p_r + a max(0, r - k).

    Where sets may not be empty the first class's is 0, so that it is in all of them at no cost to
    their size. u is uniform in [0, 1), drawn for each row. a and k, which keep sets from growing
    long, are those whose sets are smallest at a coverage of .9; where they may not be empty, half
    way from the likeliest class's coverage to 1 if that is more. Source: RAPS, Angelopoulos et al.
    2021, "Uncertainty sets for image classifiers using conformal prediction", algorithms 2 and 3,
    and appendix E; a = 0 is APS, Romano, Sesia & Candes 2020.

    Args:
        classes, empty: as for ``OptionSets``.
        probabilities: calibrated outputs (N, ...) -> p, (N, C); None: a softmax.

    Examples:
        >>> import pollinate as po
        >>> isinstance(po.conformal.OrdinalSets(["low", "high"]), po.conformal.AdaptiveSets)
        True
    """

    numbers: ClassVar[tuple[str, ...]] = (*ConformalPredictor.numbers, "penalty", "free")

    def __init__(
        self,
        classes: Sequence[str],
        empty: bool = False,
        probabilities: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__(classes, empty)
        self.probabilities = softmax if probabilities is None else probabilities
        self.penalty = torch.zeros(())  # a
        self.free = torch.ones(())  # k, classes without a penalty

    @abstractmethod
    def order(self, probabilities: Tensor) -> Tensor:
        """Return the classes in the order in which they enter a set: (N, C) int64."""

    def tune(self, output: Tensor, target: Tensor) -> Self:
        ranked, place = self._ranked(output, target)
        half_way = 1 - (place > 0).double().mean().item() / 2
        level = TUNED_FOR if self.empty else max(TUNED_FOR, half_way)
        self.free = (place + 1.0).quantile(level, interpolation="higher")
        best = None
        for penalty in PENALTIES:
            scores = self._regularised(ranked, penalty)
            own = scores.gather(1, place[:, None]).squeeze(1)
            limit = own.quantile(level, interpolation="higher")
            size = (scores <= limit).sum(dim=1).clamp(min=1).double().mean()
            if best is None or size < best:
                best, self.penalty = size, torch.tensor(penalty)
        return self

    def row_scores(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        ranked, place = self._ranked(output, target)
        own = self._regularised(ranked, float(self.penalty)).gather(1, place[:, None]).squeeze(1)
        return own, torch.ones(len(own)), target.cpu()

    def class_scores(self, output: Tensor) -> Tensor:
        probabilities = self.probabilities(output)
        order = self.order(probabilities)
        ranked = self._adaptive(output, probabilities, order)
        scores = self._regularised(ranked, float(self.penalty))
        return torch.empty_like(scores).scatter(1, order, scores)

    def reached(
        self, output: Tensor, target: Tensor, coverage: float, per_class: bool = False
    ) -> Coverage:
        found = self.sets(output, coverage, per_class)
        inside = found.gather(1, target[:, None].to(found.device)).double().mean().item()
        return Coverage(inside, found.sum(dim=1).double().mean().item())

    def _ranked(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return scores without a penalty in the classes' order, (N, C), and the target's place."""
        probabilities = self.probabilities(output)
        order = self.order(probabilities)
        place = (order == target[:, None].to(order.device)).long().argmax(dim=1)
        return self._adaptive(output, probabilities, order), place

    def _adaptive(self, output: Tensor, probabilities: Tensor, order: Tensor) -> Tensor:
        own = probabilities.gather(1, order)
        found = own.cumsum(dim=1) - own + row_uniform(output)[:, None].to(own) * own
        if not self.empty:
            found[:, 0] = 0.0
        return found

    def _regularised(self, ranked: Tensor, penalty: float) -> Tensor:
        rank = torch.arange(1, ranked.shape[1] + 1, device=ranked.device)
        return ranked + penalty * (rank - float(self.free)).clamp(min=0)


class ClassSets(AdaptiveSets):
    """Sets of classes, the likeliest first: see ``AdaptiveSets``.

    Args:
        classes: names of the C classes.
        empty: whether a set may be empty. If not, it holds the likeliest class at least.
        probabilities: calibrated outputs (N, ...) -> p, (N, C); None: a softmax.

    Examples:
        >>> import torch, pollinate as po
        >>> logits = torch.tensor([[3.0, 0.0, 0.0], [1.0, 0.9, 0.0]]).repeat(50, 1)
        >>> target = torch.tensor([0, 0, 0, 1]).repeat(25)
        >>> sets = po.conformal.ClassSets(["a", "b", "c"]).fit(logits, target)
        >>> sure, unsure = sets.sets(logits[:2], coverage=0.9)
        >>> sure.sum() <= unsure.sum()
        tensor(True)
    """

    def order(self, probabilities: Tensor) -> Tensor:
        return probabilities.argsort(dim=1, descending=True, stable=True)


class OrdinalSets(AdaptiveSets):
    """Ranges of ordered classes that grow from the middle one to the likelier neighbour.

    The middle class is the median of p. Source: Lu, Angelopoulos & Pomerantz 2022, "Improving
    trustworthiness of AI disease severity rating in medical imaging with ordinal conformal
    prediction sets", algorithm 1.

    Args:
        classes: names of the C classes, lowest first.
        empty, probabilities: as for ``ClassSets``.

    Examples:
        >>> import torch, pollinate as po
        >>> logits = torch.tensor([[0.1, 0.3, 0.4, 0.2]]).log().repeat(100, 1)
        >>> target = torch.tensor([0] * 10 + [1] * 30 + [2] * 40 + [3] * 20)
        >>> ranges = po.conformal.OrdinalSets(["1", "2", "3", "4"]).fit(logits, target)
        >>> ranges.answers(logits[:1], coverage=0.8)
        [{'low': '2', 'high': '4'}]
    """

    def order(self, probabilities: Tensor) -> Tensor:
        count = probabilities.shape[1]
        middle = (probabilities.cumsum(dim=1) < 0.5).sum(dim=1).clamp(max=count - 1)
        low, high, found = middle.clone(), middle.clone(), [middle]
        padded = functional.pad(probabilities, (1, 1), value=-1.0)
        for _ in range(count - 1):
            below = padded.gather(1, low[:, None]).squeeze(1)  # of the class low - 1
            above = padded.gather(1, high[:, None] + 2).squeeze(1)
            down = below >= above
            low, high = torch.where(down, low - 1, low), torch.where(down, high, high + 1)
            found.append(torch.where(down, low, high))
        return torch.stack(found, dim=1)

    def sets(self, output: Tensor, coverage: float, per_class: bool = False) -> Tensor:
        """Return which classes are in each row's range: (N, C) bool."""
        found = super().sets(output, coverage, per_class)
        from_low = found.long().cummax(dim=1).values
        from_high = found.long().flip(1).cummax(dim=1).values.flip(1)
        return (from_low * from_high).bool()  # thresholds per class may leave gaps

    def answers(
        self, output: Tensor, coverage: float, per_class: bool = False
    ) -> list[dict[str, Any]]:
        """Return {"low": lowest class, "high": highest one}, None where a range is empty."""
        found = []
        for row in self.sets(output, coverage, per_class).tolist():
            own = [name for name, inside in zip(self.classes, row, strict=True) if inside]
            found.append({"low": own[0] if own else None, "high": own[-1] if own else None})
        return found

    def cell_types(self) -> dict[str, type]:
        return {"_low": str, "_high": str}

    def cells(self, answer: Mapping[str, Any]) -> dict[str, Any]:
        return {"_low": answer.get("low"), "_high": answer.get("high")}


def softmax(output: Tensor) -> Tensor:
    """Return the probabilities of logits (N, C)."""
    return output.float().softmax(dim=-1)

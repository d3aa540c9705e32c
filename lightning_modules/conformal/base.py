"""Split conformal prediction: scores of calibration rows, and what follows from their quantile."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from pollinate.errors import UsageError


def require_coverage(coverage: float) -> None:
    """Check that a coverage is a share.

    Raises:
        UsageError: it isn't in (0, 1).
    """
    if not 0 < coverage < 1:
        raise UsageError(f"coverage must be in (0, 1), such as 0.9, got {coverage}")


def rows_needed(coverage: float) -> int:
    """Return the fewest calibration rows n with (n + 1) c <= n, from which a set can leave out."""
    require_coverage(coverage)
    return math.ceil(round(coverage / (1 - coverage), 9))


def conformal_quantile(scores: Tensor, weights: Tensor, coverage: float) -> float:
    """Return the smallest score t with sum_{s_i <= t} w_i >= (n + 1) c, n = sum_i w_i.

    With weights of 1 it is the ceil((n + 1) c)-th smallest: the score of a new row, exchangeable
    with these, is at most t with a probability of at least c (Vovk, Gammerman & Shafer 2005). With
    weights that sum to 1 for each row, t holds the expected share of a new row's weights that it
    misses to 1 - c: conformal risk control, Angelopoulos et al. 2022, theorem 1. Infinity if there
    is no such score.

    Args:
        scores: s, (M,); weights: w, (M,), > 0.
        coverage: c, in (0, 1).
    """
    require_coverage(coverage)
    order = scores.argsort()
    below = weights.double()[order].cumsum(dim=0)
    wanted = (weights.double().sum() + 1) * coverage
    place = int(torch.searchsorted(below, (wanted * (1 - 1e-9)).reshape(1)))
    return float(scores[order][place]) if place < len(scores) else math.inf


@dataclass(frozen=True)
class Coverage:
    """What sets or intervals of N rows reached.

    coverage: share of the rows, or of the labels that apply, that are inside.
    size: mean number of classes, or mean width in the target's unit.
    """

    coverage: float
    size: float


class ConformalPredictor(ABC):
    """Answers with sets, or intervals, that hold the truth with a chosen probability.

    P(y in S(x)) >= c for a row that is exchangeable with the calibration rows, whatever the model:
    on average over rows, not for each kind of row. ``per_class`` asks the same for each class
    (Mondrian: Vovk 2012), where a class has enough calibration rows; else it is as without.

    Attributes:
        scores: (M,) of the calibration rows, larger is stranger.
        weights: (M,) that sum to 1 for each row.
        groups: (M,) int64, the class of each score.

    Examples:
        >>> import torch, pollinate as po
        >>> sets = po.conformal.ClassSets(["cat", "dog", "owl"])
        >>> logits = torch.tensor([[2.0, 1.0, -3.0]]).repeat(100, 1)
        >>> sets = sets.fit(logits, torch.tensor([0] * 60 + [1] * 40))
        >>> sets.answers(logits[:1], coverage=0.9)
        [{'set': ['cat', 'dog']}]
        >>> isinstance(sets, po.conformal.ConformalPredictor)
        True
    """

    numbers: ClassVar[tuple[str, ...]] = ("scores", "weights", "groups")
    classes: tuple[str, ...] = ()  # those that coverage can be asked for one by one

    def __init__(self) -> None:
        self.scores = torch.zeros(0)
        self.weights = torch.zeros(0)
        self.groups = torch.zeros(0, dtype=torch.int64)

    def tune(self, output: Tensor, target: Tensor) -> Self:
        """Choose what the scores are made with, on rows (N, ...) whose scores aren't kept."""
        return self

    def calibrate(self, output: Tensor, target: Tensor) -> Self:
        """Keep the scores of rows: calibrated outputs (N, ...) and targets (N, ...)."""
        scores, self.weights, self.groups = self.row_scores(output, target)
        self.scores = scores.float().cpu()
        return self

    def fit(self, output: Tensor, target: Tensor) -> Self:
        """Do both with the same rows."""
        return self.tune(output, target).calibrate(output, target)

    @abstractmethod
    def row_scores(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return scores, weights and classes of rows, (M,) each."""

    @abstractmethod
    def answers(
        self, output: Tensor, coverage: float, per_class: bool = False
    ) -> list[dict[str, Any]]:
        """Return a row's set or interval, for people: {"set": names} or {"low": , "high": }.

        Args:
            output: calibrated, (N, ...).
            coverage: c, in (0, 1).
            per_class: whether the coverage is to hold for each class.
        """

    @abstractmethod
    def reached(
        self, output: Tensor, target: Tensor, coverage: float, per_class: bool = False
    ) -> Coverage:
        """Return what sets or intervals of other rows reach."""

    @abstractmethod
    def cell_types(self) -> dict[str, type]:
        """Return {suffix of the task's name: str or float} of the cells of a table."""

    @abstractmethod
    def cells(self, answer: Mapping[str, Any]) -> dict[str, Any]:
        """Return what ``answers`` says of a row as cells; none of it is there for an empty one."""

    @property
    def rows(self) -> int:
        """Number of calibration rows."""
        return round(float(self.weights.double().sum()))

    def threshold(self, coverage: float) -> float:
        """Return the score up to which anything is in a set; infinity where rows are too few."""
        return conformal_quantile(self.scores, self.weights, coverage)

    def class_thresholds(self, coverage: float) -> Tensor:
        """Return the same of each class, that of all where its rows are too few: (C,)."""
        every = self.threshold(coverage)
        found = torch.full((len(self.classes),), every)
        for number in range(len(self.classes)):
            own = self.groups == number
            if int(own.sum()) >= rows_needed(coverage):
                ones = torch.ones(int(own.sum()))
                found[number] = conformal_quantile(self.scores[own], ones, coverage)
        return found

    def shortage(self, coverage: float, per_class: bool = False) -> str:
        """Say what doesn't hold as rows are too few; nothing is an empty text."""
        needed = rows_needed(coverage)
        if self.rows < needed:
            return (
                f"a coverage of {coverage:g} needs {needed:,} calibration rows, there are "
                f"{self.rows:,}: its sets leave nothing out; {self.highest()}"
            )
        if not per_class:
            return ""
        if not self.classes:
            return "it has no classes: the coverage holds over all rows"
        counts = torch.bincount(self.groups, minlength=len(self.classes))
        few = [name for name, n in zip(self.classes, counts.tolist(), strict=True) if n < needed]
        if not few:
            return ""
        named = ", ".join(few[:5]) + (f" and {len(few) - 5} more" if len(few) > 5 else "")
        return (
            f"a coverage of {coverage:g} of each class needs {needed:,} calibration rows of it; "
            f"{named} have fewer, and the coverage that holds over all rows"
        )

    def highest(self) -> str:
        """Say which coverage the calibration rows suffice for."""
        share = self.rows / (self.rows + 1)
        return (
            f"ask for one up to {math.floor(share * 1000) / 1000:g}" if self.rows else "none does"
        )

    def state(self) -> dict[str, Any]:
        """Return all that was fitted, {name: tensor}."""
        return {name: getattr(self, name) for name in self.numbers}

    def load(self, state: Mapping[str, Any]) -> Self:
        """Take over what ``state`` returned."""
        for name in self.numbers:
            setattr(self, name, state[name])
        return self

"""How unlike the rows that a model was made for a row is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class ScopeRows:
    """What the scores may look at, of N rows.

    features: of the encoders, (N, D); None: the network shows none.
    logits: of the classes, (N, C), as the head gives them; None: the task has no such classes.
    classes: (N,) int64, of rows with a label; None: of rows without.

    Examples:
        >>> import torch, pollinate as po
        >>> rows = po.out_of_scope.ScopeRows(features=torch.zeros(3, 8), logits=None)
        >>> rows[torch.tensor([0, 2])].features.shape
        torch.Size([2, 8])
    """

    features: Tensor | None
    logits: Tensor | None
    classes: Tensor | None = None

    def __getitem__(self, chosen: Tensor) -> ScopeRows:
        parts = (self.features, self.logits, self.classes)
        return ScopeRows(*(None if part is None else part[chosen] for part in parts))


class OutOfScopeScore(ABC):
    """A score of rows, larger for those less like the rows that it was fitted to.

    Examples:
        >>> import torch, pollinate as po
        >>> score = po.out_of_scope.Energy()
        >>> isinstance(score, po.out_of_scope.OutOfScopeScore)
        True
    """

    numbers: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def can_fit(self, rows: ScopeRows) -> bool:
        """Say whether these rows have what it is fitted to."""

    @abstractmethod
    def can_score(self, rows: ScopeRows) -> bool:
        """Say whether these rows have what it looks at."""

    @abstractmethod
    def fit(self, rows: ScopeRows) -> Self:
        """Fit to labelled rows of the kind that the model is for."""

    @abstractmethod
    def __call__(self, rows: ScopeRows) -> Tensor:
        """Return the scores: (N,)."""

    def without(self, classes: Tensor) -> Self:
        """Return the score of a model that knows only some classes, (K,): for choosing a score."""
        return self

    def state(self) -> dict[str, Tensor]:
        """Return what was fitted, {name: tensor}."""
        return {name: getattr(self, name) for name in self.numbers}

    def load(self, state: Mapping[str, Tensor]) -> Self:
        """Take over what ``state`` returned."""
        for name in self.numbers:
            setattr(self, name, state[name])
        return self


def area_under_roc(inside: Tensor, outside: Tensor) -> float:
    """Return P(score of a row outside > that of one inside), ties counting half."""
    both = torch.cat([inside, outside]).double()
    order = both.argsort()
    ranks = torch.empty_like(both)
    ranks[order] = torch.arange(1, len(both) + 1, dtype=torch.float64)
    values, place = torch.unique(both, return_inverse=True)
    count = torch.bincount(place, minlength=len(values))
    mean = torch.zeros(len(values), dtype=torch.float64).index_add(0, place, ranks) / count
    total = mean[place][len(inside) :].sum()
    wins = total - len(outside) * (len(outside) + 1) / 2
    return (wins / (len(inside) * len(outside))).item()

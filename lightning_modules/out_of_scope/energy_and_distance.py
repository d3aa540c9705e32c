"""Energy of the logits and distance of the features together."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor

from lightning_modules.out_of_scope.base import OutOfScopeScore, ScopeRows
from lightning_modules.out_of_scope.energy import Energy
from lightning_modules.out_of_scope.mahalanobis import Mahalanobis

HELD_OUT = 5  # every fifth row measures the scales


class EnergyAndDistance(OutOfScopeScore):
    """(E - mean E) / std E + (D - mean D) / std D of ``Energy`` and ``Mahalanobis``.

    They err differently: logits know what the task was taught, features of a pre-trained encoder
    also what it was not. Means and standard deviations are those of a fifth of the rows, D's
    fitted to the others; then D is fitted to all.

    Examples:
        >>> import torch, pollinate as po
        >>> centres = torch.eye(3).repeat(20, 1)
        >>> features = centres + 0.1 * torch.randn(60, 3)
        >>> rows = po.out_of_scope.ScopeRows(features, 5 * centres, torch.arange(3).repeat(20))
        >>> score = po.out_of_scope.EnergyAndDistance().fit(rows)
        >>> new = po.out_of_scope.ScopeRows(-torch.ones(1, 3), torch.zeros(1, 3))
        >>> (score(new) > score(rows).max()).item()
        True
    """

    numbers = ("means", "inverse", "scales")

    def __init__(self) -> None:
        self.energy, self.distance = Energy(), Mahalanobis()
        self.scales = torch.tensor([[0.0, 1.0], [0.0, 1.0]])  # mean and standard deviation of each

    @property
    def means(self) -> Tensor:
        """Those of ``Mahalanobis``."""
        return self.distance.means

    @means.setter
    def means(self, value: Tensor) -> None:
        self.distance.means = value

    @property
    def inverse(self) -> Tensor:
        """That of ``Mahalanobis``."""
        return self.distance.inverse

    @inverse.setter
    def inverse(self, value: Tensor) -> None:
        self.distance.inverse = value

    def can_fit(self, rows: ScopeRows) -> bool:
        return self.energy.can_fit(rows) and self.distance.can_fit(rows)

    def can_score(self, rows: ScopeRows) -> bool:
        return self.energy.can_score(rows) and self.distance.can_score(rows)

    def fit(self, rows: ScopeRows) -> Self:
        assert rows.features is not None
        held_out = torch.arange(len(rows.features)) % HELD_OUT == 0
        rest = Mahalanobis().fit(rows[~held_out])
        found = [self.energy(rows[held_out]), rest(rows[held_out])]
        self.scales = torch.stack(
            [torch.stack([one.mean(), one.std().clamp(min=1e-6)]) for one in found]
        ).float()
        self.distance.fit(rows)
        return self

    def __call__(self, rows: ScopeRows) -> Tensor:
        both = torch.stack([self.energy(rows), self.distance(rows)], dim=1)
        scales = self.scales.to(both)
        return ((both - scales[:, 0]) / scales[:, 1]).sum(dim=1)

    def without(self, classes: Tensor) -> Self:
        found = type(self)()
        found.energy, found.distance = self.energy.without(classes), self.distance
        found.scales = self.scales
        return found

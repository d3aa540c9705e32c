"""Distance of features to the nearest class."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor

from lightning_modules.out_of_scope.base import OutOfScopeScore, ScopeRows

SHRINKAGE = 0.01  # of the covariance, towards a multiple of the identity


class Mahalanobis(OutOfScopeScore):
    """min_c |L^-1 (h - m_c)|, L L^T the covariance of features h about their classes' means m_c.

    Source: Lee et al. 2018, "A simple unified framework for detecting out-of-distribution samples
    and adversarial attacks", equations 1 and 2; the covariance is shrunk by a hundredth.

    Examples:
        >>> import torch, pollinate as po
        >>> features = torch.tensor([[0.0, 0.1], [0.1, 0.0], [9.0, 9.1], [9.1, 9.0]])
        >>> rows = po.out_of_scope.ScopeRows(features, None, torch.tensor([0, 0, 1, 1]))
        >>> score = po.out_of_scope.Mahalanobis().fit(rows)
        >>> new = po.out_of_scope.ScopeRows(torch.tensor([[0.0, 0.0], [4.0, 5.0]]), None)
        >>> usual, strange = score(new)
        >>> usual < strange
        tensor(True)
    """

    numbers = ("means", "inverse")

    def __init__(self) -> None:
        self.means = torch.zeros(0, 0)  # (K, D), m_c times L^-T
        self.inverse = torch.zeros(0, 0)  # (D, D), L^-T

    def can_fit(self, rows: ScopeRows) -> bool:
        return self.can_score(rows) and rows.classes is not None

    def can_score(self, rows: ScopeRows) -> bool:
        return rows.features is not None

    def fit(self, rows: ScopeRows) -> Self:
        assert rows.features is not None
        assert rows.classes is not None
        features = rows.features.double()
        known, place = torch.unique(rows.classes, return_inverse=True)
        count = torch.bincount(place)[:, None]
        means = features.new_zeros(len(known), features.shape[1]).index_add(0, place, features)
        means = means / count
        centred = features - means[place]
        covariance = centred.T @ centred / len(features)
        level = covariance.diagonal().mean().clamp(min=1e-12)
        eye = torch.eye(len(covariance), dtype=torch.float64)
        root = torch.linalg.cholesky(covariance + SHRINKAGE * level * eye)
        inverse = torch.linalg.solve_triangular(root, eye, upper=False).T
        self.means, self.inverse = (means @ inverse).float(), inverse.float()
        return self

    def __call__(self, rows: ScopeRows) -> Tensor:
        assert rows.features is not None
        found = rows.features.float() @ self.inverse.to(rows.features.device)
        return torch.cdist(found, self.means.to(found)).amin(dim=1)

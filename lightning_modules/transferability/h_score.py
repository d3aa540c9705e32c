"""Regularised H-score: how far apart the classes' means lie, measured by the features' spread."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_modules.transferability.base import (
    Evidence,
    Score,
    UnavailableError,
    center,
    class_means,
    require_evidence,
    require_rows,
)
from pollinate.errors import UsageError


class HScore(Score):
    """H = tr(S_a^-1 (1 - a) S_z), S_a = (1 - a) S + a tr(S) / D I.

    S is the covariance of the features, S_z that of the means of their classes. The larger a, the
    less a direction counts in which features hardly differ.

    Source: Ibrahim, Ponomareva and Mazumder 2022 (shrinkage); Bao et al. 2019 (a = 0).

    Args:
        shrinkage: a, in [0, 1]; null: that of Ledoit and Wolf, from the features.

    Examples:
        >>> import torch, pollinate as po
        >>> features = torch.tensor([[-1.0], [-1.0], [1.0], [1.0]])
        >>> told = po.Evidence(features=features, classes=torch.tensor([0, 0, 1, 1]))
        >>> mixed = po.Evidence(features=features, classes=torch.tensor([0, 1, 0, 1]))
        >>> score = po.scores.HScore(shrinkage=0.5)
        >>> round(score.score(told), 4), round(score.score(mixed), 4)
        (0.5, 0.0)
    """

    title = "H-score"

    def __init__(self, shrinkage: float | None = None) -> None:
        if shrinkage is not None and not 0 <= shrinkage <= 1:
            raise UsageError(f"shrinkage must be in [0, 1] or null, got {shrinkage}")
        self.shrinkage = shrinkage

    def score(self, evidence: Evidence) -> float:
        """Return a number in [0, D]."""
        features, classes = require_evidence(evidence.features), require_evidence(evidence.classes)
        require_rows(len(classes), 2, self.title)
        rows = center(features)
        if not rows.any():
            raise UnavailableError("all rows have the same features")
        a = ledoit_wolf(rows) if self.shrinkage is None else self.shrinkage
        return h_score(rows, classes, a)


def h_score(rows: Tensor, classes: Tensor, a: float) -> float:
    """Return tr(S_a^-1 (1 - a) S_z).

    Args:
        rows: (N, D) float64, of mean 0.
        classes: (N,) int64.
        a: shrinkage, in [0, 1].
    """
    n, dim = rows.shape
    means, counts = class_means(rows, classes)
    scaled = means * (counts / n).sqrt()[:, None]  # S_z = scaled' scaled
    covariance = rows.T @ rows / n
    own = covariance.diagonal().mean()
    shrunk = (1 - a) * covariance + a * own * torch.eye(dim, dtype=rows.dtype)
    # of no full rank where a = 0 and features repeat each other: directions without any spread
    # are left out, in which the means don't differ either
    inverse = torch.linalg.pinv(shrunk, hermitian=True)
    return float((1 - a) * ((scaled @ inverse) * scaled).sum())


def ledoit_wolf(rows: Tensor) -> float:
    """Return the shrinkage towards tr(S) / D I that is closest to the true covariance, in [0, 1].

    a = min(1, sum_i |x_i x_i' - S|^2 / n^2 / |S - m I|^2), m = tr(S) / D; norms are Frobenius'.
    Source: Ledoit and Wolf 2004.

    Args:
        rows: x, (N, D) float64, of mean 0.
    """
    n, dim = rows.shape
    covariance = rows.T @ rows / n
    size = covariance.square().sum()
    away = size - covariance.diagonal().sum().square() / dim
    noise = (rows.square().sum(dim=1).square().sum() / n - size) / n
    if away <= size * torch.finfo(torch.float64).eps:
        return 1.0  # already a multiple of I
    return float((noise / away).clamp(0, 1))

"""Distances and angles between rows as in the source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from lightning_modules.hooks import TrainingStep
from lightning_modules.transfer.feature_pairs import FeaturePair
from lightning_modules.transfer.feature_transfer import (
    REPRESENTATION,
    SingleSourceTransfer,
    distance_of_all_rows,
)
from pollinate.errors import UsageError

EPSILON = 1e-12
MIN_ROWS = 3  # rows that have an angle


class Relational(SingleSourceTransfer):
    """lambda_D L_D + lambda_A L_A: distances of two rows and angles of three, as at the source.

    L_D = mean_ij l(|s_i - s_j| / mu_s, |t_i - t_j| / mu_t), mu the mean over pairs i != j;
    L_A = mean_ijk l(cos angle s_i s_j s_k, cos angle t_i t_j t_k), l the Huber loss, threshold 1.
    Means are over all i, j, k, as in the authors' code. Widths may differ. Source: Park et al.
    2019, "Relational knowledge distillation", equations 4 to 9.

    Args:
        source, at, modalities, tasks: as for ``FeatureSelection``; at is pooled or representation.
        distances, angles: lambda_D and lambda_A, >= 0.
        rows: whose angles are looked at, the first of a step; memory grows with the cube.
        weight, until: as for ``FeatureTransfer``.

    Raises:
        UsageError: an option is out of range.

    Examples:
        >>> import torch, pollinate as po
        >>> transfer = po.transfer.Relational("runs/first", distances=1.0, angles=2.0)
        >>> rows = torch.randn(5, 4)
        >>> larger = 3 * rows @ torch.linalg.qr(torch.randn(4, 4)).Q  # and turned
        >>> round(transfer.between(rows, larger).item(), 4)
        0.0
        >>> transfer.between(rows, rows.flip(0)).item() > 0.01
        True
    """

    kinds: ClassVar[tuple[str, ...]] = ("pooled", REPRESENTATION)

    def __init__(
        self,
        source: str,
        at: str | None = None,
        modalities: Sequence[str] | None = None,
        tasks: Mapping[str, str] | Sequence[str] | None = None,
        distances: float = 1.0,
        angles: float = 2.0,
        rows: int = 64,
        weight: float = 1.0,
        until: int | None = None,
    ) -> None:
        super().__init__(source, at, modalities, tasks, weight, until)
        if min(distances, angles) < 0:
            raise UsageError(
                f"transfer.distances and angles must be >= 0, got {distances} and {angles}"
            )
        if rows < MIN_ROWS:
            raise UsageError(f"transfer.rows must be >= {MIN_ROWS}, got {rows}")
        self.distances, self.angles, self.rows = distances, angles, rows

    def distance(self, name: str, pair: FeaturePair, step: TrainingStep) -> Tensor:
        """Return the weighted sum of both, of all processes' rows."""
        return distance_of_all_rows(pair, MIN_ROWS, self.between)

    def between(self, own: Tensor, other: Tensor) -> Tensor:
        """Return the weighted sum of both: (n, D), (n, D') -> ()."""
        first = slice(self.rows)
        far = functional.smooth_l1_loss(pairwise_distances(own), pairwise_distances(other))
        turned = functional.smooth_l1_loss(
            triplet_cosines(own[first]), triplet_cosines(other[first])
        )
        return self.distances * far + self.angles * turned


def pairwise_distances(rows: Tensor) -> Tensor:
    """Return |x_i - x_j| / mu: (n, D) -> (n, n)."""
    squares = (rows[:, None] - rows[None]).square().sum(dim=-1)
    found = (squares + EPSILON).sqrt() * (
        1 - torch.eye(len(rows), dtype=rows.dtype, device=rows.device)
    )
    return found / (found.sum() / (len(rows) * (len(rows) - 1))).clamp_min(EPSILON)


def triplet_cosines(rows: Tensor) -> Tensor:
    """Return cos of the angle at x_j between x_i and x_k: (n, D) -> (n, n, n), j first."""
    towards = functional.normalize(rows[None] - rows[:, None], dim=-1)
    return towards @ towards.mT

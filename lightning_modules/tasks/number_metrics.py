"""Errors of numbers, in float64 and without sums of squares: a large mean takes no digits away."""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from torch import Tensor
from torchmetrics import Metric

from lightning_modules.tasks.running_mean import RunningMean


class MeanError(RunningMean):
    """1/n sum_i e(z_i, y_i) over all numbers that were added."""

    higher_is_better = False

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add answers z and targets y (N, ...)."""
        self.total += self.errors(preds.double(), target.double()).sum()
        self.count += target.numel()

    @staticmethod
    @abstractmethod
    def errors(preds: Tensor, target: Tensor) -> Tensor:
        """Return e(z, y) of each number."""

    def compute(self) -> Tensor:
        return self.total / self.count.clamp(min=1)


class AbsoluteError(MeanError):
    """mean |z - y|."""

    @staticmethod
    def errors(preds: Tensor, target: Tensor) -> Tensor:
        return (preds - target).abs()


class RelativeError(MeanError):
    """mean |z - y| / |y|."""

    @staticmethod
    def errors(preds: Tensor, target: Tensor) -> Tensor:
        return (preds - target).abs() / target.abs()


class RootSquaredError(MeanError):
    """sqrt(mean (z - y)^2)."""

    @staticmethod
    def errors(preds: Tensor, target: Tensor) -> Tensor:
        return (preds - target).square()

    def compute(self) -> Tensor:
        return super().compute().sqrt()


def joined_moments(parts: Tensor) -> Tensor:
    """Return (n, mean, M) of rows that come in parts: (P, 3) -> (3,), M = sum (y - mean)^2.

    n = sum n_p, mean = sum n_p mean_p / n, M = sum M_p + n_p (mean_p - mean)^2. Source: Chan,
    Golub and LeVeque 1979, equation 2.1, of several parts at once.
    """
    counts, means, squares = parts.unbind(dim=1)
    total = counts.sum()
    # from the first part on, so that nothing of the size of the mean is summed
    origin = means[counts.argmax()]
    mean = origin + (counts * (means - origin)).sum() / total.clamp(min=1)
    return torch.stack([total, mean, (squares + counts * (means - mean).square()).sum()])


class R2(Metric):
    """1 - sum (y - z)^2 / sum (y - mean y)^2; NaN of fewer than two rows.

    Where all targets are the same it is 1 if all answers are right, too, and 0 else.
    """

    full_state_update = False
    higher_is_better = True

    def __init__(self) -> None:
        super().__init__()
        zeros = torch.zeros(3, dtype=torch.float64)
        self.add_state("moments", zeros, dist_reduce_fx=joined_moments)
        self.add_state("squares", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.moments: Tensor  # n, mean and M of the targets
        self.squares: Tensor  # sum (y - z)^2

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add answers z and targets y (N,)."""
        wanted = target.double()
        mean = wanted.mean()
        own = torch.stack(
            [mean.new_tensor(float(len(wanted))), mean, (wanted - mean).square().sum()]
        )
        self.moments = joined_moments(torch.stack([self.moments, own]))
        self.squares += (preds.double() - wanted).square().sum()

    def compute(self) -> Tensor:
        count, _, spread = self.moments
        if count < 2:
            return torch.full((), math.nan)
        if spread > 0:
            explained: Tensor = 1 - self.squares / spread
            return explained
        constant: Tensor = self.squares == 0  # nothing to explain, and nothing missed
        return constant.double()

"""Variance scaling: how far numbers are off."""

from __future__ import annotations

import math
from typing import Self

import torch
from torch import Tensor

from lightning_modules.calibration.base import Calibrator, as_precise

LEAST = 1e-12  # of a standard deviation, relative to the size of the numbers


class VarianceScaling(Calibrator):
    """(m, log s) of numbers m, or of (m, log s): s <- c s, c^2 = mean_i (y_i - m_i)^2 / s_i^2.

    Numbers that come without a standard deviation have s = 1 before: one c for all rows, the root
    of the mean squared residual. The numbers m stay. Source: Levi et al. 2022, "Evaluating and
    calibrating uncertainty prediction in regression tasks", equation 8: the c of the smallest
    -sum_i log N(y_i; m_i, c^2 s_i^2).

    Examples:
        >>> import torch, pollinate as po
        >>> numbers, target = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([3.0, 0.0, 5.0, 2.0])
        >>> po.calibration.VarianceScaling().fit(numbers, target)(numbers)[:, 1].exp()
        tensor([2., 2., 2., 2.])
    """

    numbers = ("log_factor",)

    def __init__(self) -> None:
        self.log_factor = torch.zeros(())

    def fit(self, output: Tensor, target: Tensor) -> Self:
        mean, log_scale = with_scale(output).double().unbind(dim=-1)
        error = (target.double() - mean) * (-log_scale).exp()
        least = LEAST * max(float(target.abs().max()), 1e-30)
        self.log_factor = error.square().mean().sqrt().clamp(min=least).log().float()
        return self

    def __call__(self, output: Tensor) -> Tensor:
        both = with_scale(output)
        mean, log_scale = both.unbind(dim=-1)
        return torch.stack([mean, log_scale + self.log_factor.to(both)], dim=-1)


def with_scale(output: Tensor) -> Tensor:
    """Return (m, log s), (N, 2), of that or of numbers (N,), whose s is 1."""
    precise = as_precise(output)
    if precise.dim() == 2:
        return precise
    return torch.stack([precise, torch.zeros_like(precise)], dim=-1)


def normal_crps(mean: Tensor, scale: Tensor, target: Tensor) -> Tensor:
    """Return the continuous ranked probability score of N(m, s^2), in the target's unit: (N,).

    s (e (2 F(e) - 1) + 2 f(e) - 1 / sqrt(pi)), e = (y - m) / s, F and f of the standard normal.
    Source: Gneiting & Raftery 2007, "Strictly proper scoring rules", equation 21 and below.
    """
    error = (target - mean) / scale
    density = (-error.square() / 2).exp() / math.sqrt(2 * math.pi)
    below = torch.special.ndtr(error)
    found: Tensor = scale * (error * (2 * below - 1) + 2 * density - 1 / math.sqrt(math.pi))
    return found

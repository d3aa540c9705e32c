"""A number."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_modules.comparisons.base import Comparison, Divergence


class Number(Comparison):
    """Outputs are numbers (N,): ((z - z_teacher) / s)^2 / 2, as the loss of a label.

    Args:
        scale: s, > 0: the target's standard deviation, in its own unit.
    """

    def __init__(self, scale: float) -> None:
        self.scale = scale

    def apart(self, student: Tensor, teacher: Tensor, divergence: Divergence) -> Tensor:
        """Return half the squared difference in standard deviations: (N,)."""
        precise = student.to(torch.promote_types(student.dtype, torch.float32))
        return ((precise - teacher) / self.scale).square() / 2

    def mean(self, outputs: Tensor, shares: Tensor, temperature: float) -> Tensor:
        """Return the weighted mean: (N,)."""
        return (outputs * shares).sum(dim=0)

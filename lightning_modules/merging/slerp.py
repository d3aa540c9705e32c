"""Spherical interpolation of two models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from lightning_modules.merging.base import MergeMethod, MergeResult
from lightning_modules.merging.evaluator import MergeEvaluator
from lightning_modules.merging.models import Models, ResultTensor
from pollinate.errors import UsageError

MIN_ANGLE = 1e-6  # radians; below it, the arc is its chord


class Slerp(MergeMethod):
    """theta = (sin((1 - t) W) theta_1 + sin(t W) theta_2) / sin W, W the angle between the two.

    Of each tensor by itself. Source: Shoemake 1985, "Animating rotation with quaternion curves",
    section 3.3, for vectors of any length.

    Args:
        t: in [0, 1]: 0 is the first model, 1 the second.

    Raises:
        UsageError: t is out of its range.

    Examples:
        >>> import torch, pollinate as po
        >>> a, b = {"w": torch.tensor([1.0, 0.0])}, {"w": torch.tensor([0.0, 1.0])}
        >>> po.merging.Slerp(t=0.5).merge_state_dicts({"a": a, "b": b}).state  # as long as both
        {'w': tensor([0.7071, 0.7071])}
    """

    fewest: ClassVar[int] = 2
    most: ClassVar[int | None] = 2

    def __init__(self, t: float = 0.5) -> None:
        if not 0 <= t <= 1:
            raise UsageError(f"t must be in [0, 1], got {t}")
        self.t = t

    def merge(self, models: Models, evaluator: MergeEvaluator) -> MergeResult:
        def rule(_: ResultTensor, tensors: Sequence[Tensor], __: Tensor | None) -> Tensor:
            return slerp(tensors[0], tensors[1], self.t)

        return MergeResult(models.merged(rule, [1 - self.t, self.t]), {"t": self.t})


def slerp(first: Tensor, second: Tensor, t: float) -> Tensor:
    """Return the point at t of the arc from one tensor to another; straight, where W is 0 or pi."""
    a, b = first.double(), second.double()
    lengths = a.norm() * b.norm()
    cosine = (a * b).sum() / lengths if lengths > 0 else torch.ones(())
    angle = torch.arccos(cosine.clamp(-1, 1))
    if torch.sin(angle) < MIN_ANGLE:
        return torch.lerp(a, b, t).to(first.dtype)
    weights = [torch.sin(part * angle) / torch.sin(angle) for part in (1 - t, t)]
    return (weights[0] * a + weights[1] * b).to(first.dtype)

"""Trimmed mean."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from lightning_modules.balancers.base import LossBalancer
from lightning_modules.balancers.gradient_base import JacobianBalancer
from pollinate.errors import UsageError


class TrimmedMean(JacobianBalancer):
    """T times the mean of each number over tasks, without its largest and smallest.

    Source: Yin et al. 2018, "Byzantine-Robust Distributed Learning", definition 2.

    Args:
        tasks, level, losses: as for every ``GradientBalancer``.
        trimmed: >= 0, tasks left out at either end; fewer where a step has too few tasks.

    Examples:
        >>> import torch, pollinate as po
        >>> shared = torch.ones(1, requires_grad=True)
        >>> losses = {"mood": shared[0], "stars": 2 * shared[0], "broken": 1000 * shared[0]}
        >>> po.balancers.TrimmedMean(list(losses)).backward(losses)
        >>> shared.grad  # three times the middle one
        tensor([6.])
    """

    def __init__(
        self,
        tasks: Sequence[str],
        trimmed: int = 1,
        level: str = "auto",
        losses: LossBalancer | None = None,
    ) -> None:
        super().__init__(tasks, level, losses)
        if trimmed < 0:
            raise UsageError(f"balancer.trimmed must be >= 0, got {trimmed}")
        self.trimmed = trimmed

    def combine(self, jacobian: Tensor, losses: Tensor, tasks: Sequence[str]) -> Tensor:
        count = len(tasks)
        cut = min(self.trimmed, (count - 1) // 2)
        kept = jacobian.sort(dim=0).values[cut : count - cut]
        return kept.mean(dim=0) * count

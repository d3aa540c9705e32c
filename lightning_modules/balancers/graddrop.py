"""Gradient sign dropout."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_modules.balancers.base import LossBalancer
from lightning_modules.balancers.gradient_base import JacobianBalancer
from lightning_modules.balancers.step_random import StepGenerator


class GradDrop(JacobianBalancer):
    """Each number of the gradient keeps the positive or the negative contributions only.

    The sign is + with probability (1 + sum_t g_t / sum_t |g_t|) / 2, drawn for each number.
    On features every process draws for its own rows: other signs than one process would draw.
    Source: Chen et al. 2020, "Just Pick a Sign", algorithm 1, without leaks.

    Args:
        tasks, level, losses: as for every ``GradientBalancer``.
        seed: with the number of the step it gives the same draws on all processes.

    Examples:
        >>> import torch, pollinate as po
        >>> shared = torch.ones(2, requires_grad=True)
        >>> losses = {"mood": shared[0] - 2 * shared[1], "stars": 3 * shared[0] - shared[1]}
        >>> po.balancers.GradDrop(["mood", "stars"]).backward(losses)
        >>> shared.grad  # where signs agree nothing is dropped
        tensor([ 4., -3.])
    """

    def __init__(
        self,
        tasks: Sequence[str],
        seed: int = 0,
        level: str = "auto",
        losses: LossBalancer | None = None,
    ) -> None:
        super().__init__(tasks, level, losses)
        self.draws = StepGenerator(seed)

    def combine(self, jacobian: Tensor, losses: Tensor, tasks: Sequence[str]) -> Tensor:
        """Return the sum of the contributions of the drawn sign: (P,)."""
        total, size = jacobian.sum(dim=0), jacobian.abs().sum(dim=0)
        # one generator of the CPU: the same draws whatever the device
        drawn = torch.rand(len(total), generator=self.draws.generator()).to(jacobian)
        self.draws.advance()
        # sum of positives (size + total) / 2 and of negatives (total - size) / 2
        positive = 2 * drawn * size < size + total
        return torch.where(positive, total + size, total - size) / 2

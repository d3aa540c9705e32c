"""Gradient sign dropout."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lightning_modules.balancers.base import LossBalancer
from lightning_modules.balancers.gradient_base import JacobianBalancer
from lightning_modules.balancers.shared_gradients import SharedGradients
from lightning_modules.balancers.step_random import StepGenerator


class GradDrop(JacobianBalancer):
    """Each column of the gradient keeps the tasks whose contributions have the drawn sign.

    G_t = g_t on parameters; on features G_t = sum over all rows of sign(a) g_t, a the activation,
    so that a column has one sign per task. The sign is + with probability
    (1 + sum_t G_t / sum_t |G_t|) / 2, drawn once for each column; g_t stays in all rows of the
    columns where G_t has it, and is dropped elsewhere. Source: Chen et al. 2020, "Just Pick a
    Sign", algorithm 1, without leaks, and with f(p) = p; the authors' code restores the length
    of the sum in addition, the algorithm doesn't.

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
        return masked_sum(jacobian, self._kept(jacobian), lambda kept: kept)

    def combine_at(
        self, shared: SharedGradients, jacobian: Tensor, losses: Tensor, tasks: Sequence[str]
    ) -> Tensor:
        return masked_sum(jacobian, self._kept(shared.column_sums(jacobian)), shared.spread)

    def _kept(self, columns: Tensor) -> Tensor:
        """Return which tasks count in which column: (T, Q), bool."""
        total, size = columns.sum(dim=0), columns.abs().sum(dim=0)
        # one generator of the CPU: the same draws whatever the device
        drawn = torch.rand(len(total), generator=self.draws.generator()).to(columns)
        self.draws.advance()
        positive = 2 * drawn * size < size + total
        return torch.where(positive, columns >= 0, columns <= 0)


def masked_sum(jacobian: Tensor, kept: Tensor, spread: Callable[[Tensor], Tensor]) -> Tensor:
    """Return sum_t g_t where it is kept: (P,)."""
    total = torch.zeros_like(jacobian[0])
    for row, mask in zip(jacobian, kept, strict=True):
        total += row * spread(mask)
    return total

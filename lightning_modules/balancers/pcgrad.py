"""Gradient surgery."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_modules.balancers.base import LossBalancer
from lightning_modules.balancers.gradient_base import GramianBalancer
from lightning_modules.balancers.step_random import RandomOrder


class PCGrad(GramianBalancer):
    """Each g_t loses its part along every other g_s that it conflicts with, one after the other.

    g_t <- g_t - (g_t . g_s / |g_s|^2) g_s where g_t . g_s < 0, for s in random order; then the sum.
    Source: Yu et al. 2020, "Gradient Surgery for Multi-Task Learning", algorithm 1.

    Args:
        tasks, level, losses: as for every ``GradientBalancer``.
        seed: of the orders; with the number of the step it gives the same ones on all processes.

    Examples:
        >>> import torch, pollinate as po
        >>> shared = torch.ones(2, requires_grad=True)
        >>> losses = {"mood": 2 * shared[0], "stars": shared[1] - shared[0]}  # they conflict
        >>> po.balancers.PCGrad(["mood", "stars"]).backward(losses)
        >>> shared.grad  # (1, 1) and (0, 1): each without its part along the other
        tensor([1., 2.])
    """

    def __init__(
        self,
        tasks: Sequence[str],
        seed: int = 0,
        level: str = "auto",
        losses: LossBalancer | None = None,
    ) -> None:
        super().__init__(tasks, level, losses)
        self.order = RandomOrder(tasks, seed)

    def weights(self, gramian: Tensor, losses: Tensor, tasks: Sequence[str]) -> Tensor:
        coefficients = torch.eye(len(tasks), dtype=gramian.dtype)  # row t: the changed g_t
        orders = self.order.next(tasks)
        for t, order in enumerate(orders):
            for s in order:
                product = coefficients[t] @ gramian[:, s]
                if s != t and product < 0:
                    coefficients[t, s] -= product / gramian[s, s]
        return coefficients.sum(dim=0)

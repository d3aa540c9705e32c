"""Gradient vaccine."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_modules.balancers.base import LossBalancer
from lightning_modules.balancers.gradient_base import GramianBalancer
from lightning_modules.balancers.step_random import RandomOrder
from pollinate.errors import UsageError

HIGHEST = 0.999  # goal: sqrt(1 - a^2) divides, and is 0 for gradients that are usually parallel


class GradVac(GramianBalancer):
    """Like PCGrad, but each pair's cosine c is raised to its usual value a where it is below.

    g_t <- g_t + |g_t| (a sqrt(1 - c^2) - c sqrt(1 - a^2)) / (|g_s| sqrt(1 - a^2)) g_s, then
    a <- (1 - rate) a + rate c. Source: Wang et al. 2021, "Gradient Vaccine", equation 3 and
    algorithm 1. A goal above 0.999 counts as that: it would add any multiple of g_s.

    Args:
        tasks, level, losses: as for every ``GradientBalancer``.
        rate: in (0, 1], of the moving average of a pair's cosine, which starts at 0.
        seed: of the orders, as for ``PCGrad``.

    Examples:
        >>> import torch, pollinate as po
        >>> shared = torch.ones(2, requires_grad=True)
        >>> losses = {"mood": 2 * shared[0], "stars": shared[1] - shared[0]}  # they conflict
        >>> balancer = po.balancers.GradVac(["mood", "stars"])
        >>> balancer.backward(losses)
        >>> shared.grad, balancer.task_weights(losses)
        (tensor([1., 2.]), {'mood': 1.5, 'stars': 2.0})
    """

    cosine: Tensor

    def __init__(
        self,
        tasks: Sequence[str],
        rate: float = 0.01,
        seed: int = 0,
        level: str = "auto",
        losses: LossBalancer | None = None,
    ) -> None:
        super().__init__(tasks, level, losses)
        if not 0 < rate <= 1:
            raise UsageError(f"balancer.rate must be in (0, 1], got {rate}")
        self.rate = rate
        self.order = RandomOrder(tasks, seed)
        # (T, T): row t holds what g_t is raised to, by the order of the run's tasks
        self.register_buffer("cosine", torch.zeros(len(tasks), len(tasks), dtype=torch.float64))

    def weights(self, gramian: Tensor, losses: Tensor, tasks: Sequence[str]) -> Tensor:
        numbers = [self.tasks.index(task) for task in tasks]
        usual = self.cosine.cpu().double()
        coefficients = torch.eye(len(tasks), dtype=gramian.dtype)
        lengths = gramian.diagonal().sqrt()
        for t, order in enumerate(self.order.next(tasks)):
            for s in order:
                if s == t:
                    continue
                products = coefficients[t] @ gramian
                length = (products @ coefficients[t]).clamp(min=0).sqrt()
                if length == 0:
                    continue
                a = usual[numbers[t], numbers[s]].clone()
                goal = a.clamp(max=HIGHEST)
                c = (products[s] / (length * lengths[s])).clamp(-1, 1)
                if c < goal:
                    across = (1 - goal * goal).sqrt()
                    rise = goal * (1 - c * c).sqrt() - c * across
                    coefficients[t, s] += length * rise / (lengths[s] * across)
                usual[numbers[t], numbers[s]] = (1 - self.rate) * a + self.rate * c
        self.cosine.copy_(usual)
        return coefficients.sum(dim=0)

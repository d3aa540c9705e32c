"""Smoothed weights of another method."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_modules.balancers.base import LossBalancer
from lightning_modules.balancers.equal import Equal
from lightning_modules.balancers.gradient_base import GramianBalancer
from pollinate.errors import UsageError


class CRMOGM(GramianBalancer):
    """w <- rate w + (1 - rate) w', where w' are the weights of ``method``; w starts at 1.

    Source: Zhou et al. 2022, "On the Convergence of Stochastic Multi-Objective Gradient
    Manipulation and Beyond", algorithm 1, correlation-reduced weights.

    Args:
        tasks, level, losses: as for every ``GradientBalancer``.
        method: whose weights are smoothed; level and loss method are this one's.
        rate: in [0, 1), share of the old weights.

    Examples:
        >>> import torch, pollinate as po
        >>> shared = torch.ones(2, requires_grad=True)
        >>> losses = {"mood": 2 * shared[0], "stars": shared[1] - shared[0]}
        >>> inner = po.balancers.MGDA(["mood", "stars"])  # weights 0.8 and 1.2
        >>> balancer = po.balancers.CRMOGM(["mood", "stars"], method=inner, rate=0.9)
        >>> balancer.backward(losses)
        >>> {task: round(weight, 4) for task, weight in balancer.task_weights(losses).items()}
        {'mood': 0.98, 'stars': 1.02}
    """

    weight: Tensor

    def __init__(
        self,
        tasks: Sequence[str],
        method: GramianBalancer,
        rate: float = 0.9,
        level: str = "auto",
        losses: LossBalancer | None = None,
    ) -> None:
        super().__init__(tasks, level, losses)
        if not isinstance(method, GramianBalancer):
            raise UsageError(
                "balancer.method must be a method that weighs gradients, got "
                f"{type(method).__name__}"
            )
        if not 0 <= rate < 1:
            raise UsageError(f"balancer.rate must be in [0, 1), got {rate}")
        unread = {
            "level": method.requested_level != "auto",
            "losses": not isinstance(method.first, Equal),
        }
        for name, given in unread.items():
            if given:
                raise UsageError(
                    f"balancer.method.{name} has no effect, as only the method's weights are "
                    f"smoothed; set balancer.{name}"
                )
        self.method, self.rate = method, rate
        self.register_buffer("weight", torch.ones(len(tasks), dtype=torch.float64))

    def weights(self, gramian: Tensor, losses: Tensor, tasks: Sequence[str]) -> Tensor:
        numbers = [self.tasks.index(task) for task in tasks]
        weight = self.weight.cpu()
        found = self.method.weights(gramian, losses, tasks)
        weight[numbers] = self.rate * weight[numbers] + (1 - self.rate) * found
        self.weight.copy_(weight)
        return weight[numbers]

"""Smooth Tchebycheff scalarization."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from lightning_modules.balancers.base import Scalarization, task_preferences
from pollinate.errors import UsageError


class SmoothTchebycheff(Scalarization):
    """s = mu log sum_t exp(p_t (L_t - z_t) / mu), which nears max_t p_t (L_t - z_t) as mu -> 0.

    w_t = p_t softmax_t(p (L - z) / mu): the task that lies farthest behind counts most.
    Source: Lin et al. 2024, "Smooth Tchebycheff Scalarization for Multi-Objective Optimization".

    Args:
        tasks: names of all tasks of the run.
        mu: > 0; small values follow the worst task alone, large weighs by preference alone.
        preference: {task: p_t > 0}; 1 for a task that is not named.
        ideal: {task: z_t}, the loss that a task could reach; 0 for one that is not named.

    Examples:
        >>> import torch, pollinate as po
        >>> balancer = po.balancers.SmoothTchebycheff(["mood", "stars"], mu=0.5)
        >>> losses = torch.tensor([2.0, 3.0], requires_grad=True)
        >>> balancer.backward({"mood": losses[0], "stars": losses[1]})
        >>> losses.grad  # each task's weight: the worse one counts most
        tensor([0.1192, 0.8808])
    """

    def __init__(
        self,
        tasks: Sequence[str],
        mu: float = 1.0,
        preference: Mapping[str, float] | None = None,
        ideal: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(tasks)
        if not mu > 0:
            raise UsageError(f"balancer.mu must be > 0, got {mu}")
        self.mu = mu
        self.preference = task_preferences("preference", tasks, preference or {}, 1.0, 0.0)
        self.ideal = task_preferences("ideal", tasks, ideal or {}, 0.0, float("-inf"))

    def scalarize(self, losses: Tensor, tasks: Sequence[str]) -> Tensor:
        preference = losses.new_tensor([self.preference[task] for task in tasks])
        ideal = losses.new_tensor([self.ideal[task] for task in tasks])
        return self.mu * torch.logsumexp(preference * (losses - ideal) / self.mu, dim=0)

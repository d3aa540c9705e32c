"""Multi-objective gradient correction."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_modules.balancers.base import LossBalancer
from lightning_modules.balancers.gradient_base import JacobianBalancer, TaskVectors
from lightning_modules.balancers.shared_gradients import gramian
from lightning_modules.balancers.solvers import project_to_simplex
from pollinate.errors import UsageError


class MoCo(JacobianBalancer):
    """T sum_t v_t y_t: tracked gradients y, and weights v that descend on |sum_t v_t y_t|^2.

    y_t <- y_t - beta (y_t - g_t), v <- P(v - gamma (Y Y^T + rho) v), P onto the simplex. The
    tracked gradients take the noise of a batch out of the choice of v.
    Source: Fernando et al. 2023, "Mitigating Gradient Bias in Multi-objective Learning",
    algorithm 1. y starts at the first gradient in place of 0; Y Y^T is divided by its mean
    diagonal, so that gamma has no unit. State: one vector per task.

    Args:
        tasks, losses: as for every ``GradientBalancer``; the level is ``parameters``.
        beta: in (0, 1], of the tracking.
        gamma: > 0, step of v.
        rho: >= 0, pull of v towards equal weights.

    Examples:
        >>> import torch, pollinate as po
        >>> shared = torch.ones(2, requires_grad=True)
        >>> losses = {"mood": 2 * shared[0], "stars": shared[1]}
        >>> balancer = po.balancers.MoCo(["mood", "stars"])
        >>> balancer.backward(losses)
        >>> shared.grad  # v = (0.47, 0.53)
        tensor([1.8800, 1.0600])
    """

    levels = ("auto", "parameters")
    weight: Tensor
    tracked: Tensor

    def __init__(
        self,
        tasks: Sequence[str],
        beta: float = 0.5,
        gamma: float = 0.1,
        rho: float = 0.0,
        level: str = "auto",
        losses: LossBalancer | None = None,
    ) -> None:
        super().__init__(tasks, level, losses)
        if not (0 < beta <= 1 and gamma > 0 and rho >= 0):
            raise UsageError(
                "balancer.beta must be in (0, 1], gamma > 0 and rho >= 0, got "
                f"{beta}, {gamma} and {rho}"
            )
        self.beta, self.gamma, self.rho = beta, gamma, rho
        self.register_buffer("weight", torch.full((len(tasks),), 1 / len(tasks)).double())
        self.register_buffer("tracked", torch.zeros(len(tasks), dtype=torch.bool))
        self.traces = TaskVectors(tasks)

    def combine(self, jacobian: Tensor, losses: Tensor, tasks: Sequence[str]) -> Tensor:
        """Return the weighted sum of the tracked gradients: (P,)."""
        self.traces.allocate(jacobian[0])
        numbers = [self.tasks.index(task) for task in tasks]
        for task, number, gradient in zip(tasks, numbers, jacobian, strict=True):
            rate = self.beta if self.tracked[number] else 1.0
            self.traces[task].lerp_(gradient, rate)
        self.tracked[numbers] = True
        rows = torch.stack([self.traces[task] for task in tasks])
        weights = self._descend(self.weight.cpu()[numbers], gramian(rows).cpu())
        self.weight[numbers] = weights.to(self.weight)
        share = weights / weights.sum().clamp(min=1e-12) * len(tasks)
        return share.to(rows) @ rows

    def _descend(self, weights: Tensor, products: Tensor) -> Tensor:
        """Return v after its step; the present tasks keep their sum."""
        total = weights.sum()
        if total <= 0:
            return weights
        scaled = products / products.diagonal().mean().clamp(min=1e-300)
        share = weights / total
        return total * project_to_simplex(share - self.gamma * (scaled @ share + self.rho * share))

    def seen_weights(self, tasks: Sequence[str]) -> Tensor:
        return self.weight.cpu()[[self.tasks.index(task) for task in tasks]] * len(self.tasks)

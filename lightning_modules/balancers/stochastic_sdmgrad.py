"""Direction-oriented multi-objective descent, by steps on noisy gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from lightning_modules.balancers.base import LossBalancer, task_preferences
from lightning_modules.balancers.double_sampling import DoubleSampling
from lightning_modules.balancers.solvers import project_to_simplex
from pollinate.errors import UsageError


class StochasticSDMGrad(DoubleSampling):
    """w = (T v + strength p) / (1 + strength); v descends along A B^T (v + strength p / T).

    Each optimizer step does ``steps`` projected steps on v with momentum, from where the last one
    ended. A and B are the Jacobians of two batches: see ``DoubleSampling`` for which. ``SDMGrad``
    solves for the v of one batch exactly. Source: Xiao, Ban and Ji 2023, "Direction-oriented
    Multi-objective Learning", algorithm 1; momentum as in the authors' code, whose third batch for
    g is the mean of all parts here. Their rate of 5 to 10 sends v from corner to corner.

    Args:
        tasks, level, losses: as for every ``DoubleSampling``.
        strength: >= 0, lambda of the paper; a large one nears the plain sum.
        preference: {task: p_t > 0}; 1 for a task that isn't named.
        lr: > 0, of v.
        momentum: in [0, 1), of v.
        steps: >= 1, on v for each optimizer step.

    Examples:
        >>> import torch, pollinate as po
        >>> shared = torch.ones(2, requires_grad=True)
        >>> losses = {"mood": 2 * shared[0], "stars": shared[1]}
        >>> po.balancers.StochasticSDMGrad(["mood", "stars"]).backward(losses)
        >>> shared.grad  # a first step has no other batch
        tensor([2., 1.])
    """

    def __init__(
        self,
        tasks: Sequence[str],
        strength: float = 0.3,
        preference: Mapping[str, float] | None = None,
        lr: float = 0.1,
        momentum: float = 0.5,
        steps: int = 20,
        level: str = "auto",
        losses: LossBalancer | None = None,
    ) -> None:
        super().__init__(tasks, level, losses)
        if not (strength >= 0 and lr > 0 and 0 <= momentum < 1 and steps >= 1):
            raise UsageError(
                "balancer.strength must be >= 0, lr > 0, momentum in [0, 1) and steps >= 1, got "
                f"{strength}, {lr}, {momentum} and {steps}"
            )
        self.strength, self.lr, self.momentum, self.steps = strength, lr, momentum, steps
        self.preference = task_preferences("preference", tasks, preference or {}, 1.0, 0.0)

    def descend(self, share: Tensor, products: Tensor, tasks: Sequence[str]) -> Tensor:
        pull = products @ self._preferred(tasks) * self.strength / len(tasks)
        velocity = torch.zeros_like(share)
        for _ in range(self.steps):
            velocity = self.momentum * velocity + products @ share + pull
            share = project_to_simplex(share - self.lr * velocity)
        return share

    def combined(self, share: Tensor, tasks: Sequence[str]) -> Tensor:
        pull = self.strength * self._preferred(tasks)
        return (share * len(tasks) + pull) / (1 + self.strength)

    def _preferred(self, tasks: Sequence[str]) -> Tensor:
        return torch.tensor([self.preference[task] for task in tasks], dtype=torch.float64)

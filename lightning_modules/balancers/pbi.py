"""Penalty-based boundary intersection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from lightning_modules.balancers.base import Scalarization, task_preferences
from pollinate.errors import UsageError


class PBI(Scalarization):
    """s = |p| (d_1 + penalty * d_2): how far L lies along the preference p, and how far beside it.

    d_1 = |(L - z) . p| / |p|, d_2 = |L - z - d_1 p / |p||. |p| times the paper's s, so that equal
    losses are summed; a d_2 that is nothing but rounding counts as 0.
    Source: Zhang and Li 2007, "MOEA/D", the penalty-based boundary intersection approach.

    Args:
        tasks: names of all tasks of the run.
        penalty: >= 0, of the distance from the ray along p.
        preference: {task: p_t > 0}; 1 for a task that is not named.
        ideal: {task: z_t}, the loss that a task could reach; 0 for one that is not named.

    Examples:
        >>> import torch, pollinate as po
        >>> balancer = po.balancers.PBI(["mood", "stars"], ideal={"stars": 0.5})
        >>> losses = torch.tensor([3.0, 2.0], requires_grad=True)
        >>> balancer.backward({"mood": losses[0], "stars": losses[1]})
        >>> losses.grad  # each task's weight: stars is nearer to its ideal
        tensor([ 2.0000e+00, -5.9605e-08])
    """

    def __init__(
        self,
        tasks: Sequence[str],
        penalty: float = 1.0,
        preference: Mapping[str, float] | None = None,
        ideal: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(tasks)
        if not penalty >= 0:
            raise UsageError(f"balancer.penalty must be >= 0, got {penalty}")
        self.strength = penalty
        self.preference = task_preferences("preference", tasks, preference or {}, 1.0, 0.0)
        self.ideal = task_preferences("ideal", tasks, ideal or {}, 0.0, float("-inf"))

    def scalarize(self, losses: Tensor, tasks: Sequence[str]) -> Tensor:
        preference = losses.new_tensor([self.preference[task] for task in tasks])
        unit = preference / preference.norm()
        above = losses - losses.new_tensor([self.ideal[task] for task in tasks])
        along: Tensor = (above @ unit).abs()
        apart = above - along * unit
        noise = 4 * torch.finfo(losses.dtype).eps * above.detach().abs().max()
        beside: Tensor = torch.linalg.vector_norm(torch.where(apart.abs() > noise, apart, 0))
        length: Tensor = torch.linalg.vector_norm(preference)
        return length * (along + self.strength * beside)

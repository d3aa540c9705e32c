"""Weighted sum with a reward for losses along the preference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor
from torch.nn import functional

from lightning_modules.balancers.base import Scalarization, task_preferences
from pollinate.errors import UsageError


class Cosmos(Scalarization):
    """s = p . L - strength * cos(p, L).

    Source: Ruchte and Grabocka 2021, "Scalable Pareto Front Approximation for Deep Multi-Objective
    Learning", with one preference p for the run instead of one drawn for each batch.

    Args:
        tasks: names of all tasks of the run.
        strength: >= 0, of the pull towards losses in the ratio of the preference.
        preference: {task: p_t > 0}; 1 for a task that is not named.

    Examples:
        >>> import torch, pollinate as po
        >>> balancer = po.balancers.Cosmos(["mood", "stars"], preference={"mood": 2.0})
        >>> losses = torch.tensor([3.0, 4.0], requires_grad=True)
        >>> balancer.backward({"mood": losses[0], "stars": losses[1]})
        >>> losses.grad  # each task's weight, near its preference
        tensor([1.9284, 1.0537])
    """

    def __init__(
        self,
        tasks: Sequence[str],
        strength: float = 1.0,
        preference: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(tasks)
        if not strength >= 0:
            raise UsageError(f"balancer.strength must be >= 0, got {strength}")
        self.strength = strength
        self.preference = task_preferences("preference", tasks, preference or {}, 1.0, 0.0)

    def scalarize(self, losses: Tensor, tasks: Sequence[str]) -> Tensor:
        preference = losses.new_tensor([self.preference[task] for task in tasks])
        along = functional.cosine_similarity(preference, losses, dim=0)
        return preference @ losses - self.strength * along

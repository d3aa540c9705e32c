"""Weights chosen by the user."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from torch import Tensor

from lightning_modules.balancers.base import LossBalancer
from pollinate.errors import UsageError


class Fixed(LossBalancer):
    """w_t as given; 1 for a task that is not named.

    Args:
        tasks: names of all tasks of the run.
        task_weights: {task: weight}, finite and >= 0.

    Raises:
        UsageError: a weight for an unknown task, or a negative or infinite one.

    Examples:
        >>> import torch, pollinate as po
        >>> balancer = po.balancers.Fixed(["mood", "stars"], task_weights={"stars": 0.25})
        >>> balancer.objective({"mood": torch.tensor(2.0), "stars": torch.tensor(8.0)})
        tensor(4.)
    """

    def __init__(
        self, tasks: Sequence[str], task_weights: Mapping[str, float] | None = None
    ) -> None:
        super().__init__(tasks)
        task_weights = task_weights or {}
        for task, weight in task_weights.items():
            if task not in tasks:
                raise UsageError(
                    f"balancer.task_weights names {task!r}; the tasks are {', '.join(tasks)}"
                )
            if not (math.isfinite(weight) and weight >= 0):
                raise UsageError(
                    f"balancer.task_weights.{task} must be finite and >= 0, got {weight}"
                )
        self.task_weight = {task: float(task_weights.get(task, 1.0)) for task in tasks}

    def weights(self, losses: Tensor, tasks: Sequence[str]) -> Tensor:
        return losses.new_tensor([self.task_weight[task] for task in tasks])

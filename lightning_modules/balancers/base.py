"""The balancer contract: how the tasks' losses become one gradient."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn


class Balancer(nn.Module, ABC):
    """Combines the losses of the tasks that a step has, and fills ``.grad``.

    State is registered buffers and parameters by task name, so a checkpoint restores it exactly.

    Args:
        tasks: names of all tasks of the run.
    """

    def __init__(self, tasks: Sequence[str]) -> None:
        super().__init__()
        self.tasks = tuple(tasks)

    @abstractmethod
    def objective(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Return the scalar that is minimised, differentiable.

        Args:
            losses: {task: scalar} of the tasks that this step has; absent tasks are left out.
        """

    @abstractmethod
    def task_weights(self, losses: Mapping[str, Tensor]) -> dict[str, float]:
        """Return the weight that each present task has now, for the log."""

    def backward(self, losses: Mapping[str, Tensor], objective: Tensor | None = None) -> None:
        """Add this step's gradient to ``.grad`` of every parameter.

        Args:
            losses: {task: scalar} of the tasks that this step has.
            objective: what ``objective(losses)`` returned, possibly scaled by the trainer
                (gradient accumulation, mixed precision); None: computed here.
        """
        scalar = self.objective(losses) if objective is None else objective
        scalar.backward()  # type: ignore[no-untyped-call]  # torch's is not annotated


class LossBalancer(Balancer):
    """Weighs losses: objective = sum_t w_t L_t + penalty, over the step's tasks."""

    @abstractmethod
    def weights(self, losses: Tensor, tasks: Sequence[str]) -> Tensor:
        """Return the weights: (P,).

        Args:
            losses: (P,) losses of the present tasks, detached.
            tasks: (P,) their names, in the same order.
        """

    def penalty(self, tasks: Sequence[str]) -> Tensor | None:
        """Return a scalar added to the weighted sum, or None."""
        return None

    def objective(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Return sum_t w_t L_t plus the penalty."""
        tasks = list(losses)
        values = torch.stack([losses[task] for task in tasks])
        total = (self.weights(values.detach(), tasks) * values).sum()
        penalty = self.penalty(tasks)
        return total if penalty is None else total + penalty

    def task_weights(self, losses: Mapping[str, Tensor]) -> dict[str, float]:
        """Return w by task."""
        values = torch.stack([loss.detach() for loss in losses.values()])
        return dict(zip(losses, self.weights(values, list(losses)).tolist(), strict=True))

"""Weights learnt by looking ahead."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_modules.balancers.base import LossBalancer
from lightning_modules.balancers.gradient_base import JacobianBalancer, TaskVectors
from pollinate.errors import UsageError


class AutoLambda(JacobianBalancer):
    """A task's weight grows if its last step lowered the primary tasks' loss on the next batch.

    w_t <- max(0, w_t + lr cos(g_t(k - 1), sum_{s primary} g_s(k))).
    The inner product is minus the derivative, up to the learning rate, of the primary tasks' loss
    after step k - 1 by w_t. Source: Liu et al. 2022, "Auto-Lambda", equations 4 to 6. Their
    validation batch after a trial step is the next training batch after the real one here, which
    is as new to the weights, and costs nothing; the cosine takes the place of Adam on w. State:
    one vector per task.

    Args:
        tasks, losses: as for every ``GradientBalancer``; the level is ``parameters``.
        primary: tasks that matter; empty: all.
        lr: > 0, of the weights.

    Raises:
        UsageError: a primary task that there isn't.

    Examples:
        >>> import torch, pollinate as po
        >>> shared = torch.ones(2, requires_grad=True)
        >>> balancer = po.balancers.AutoLambda(["mood", "stars"], primary=["mood"], lr=0.1)
        >>> for _ in range(2):  # a step on stars raises the loss of mood
        ...     losses = {"mood": shared.sum(), "stars": -shared.sum()}
        ...     balancer.backward(losses)
        >>> {task: round(weight, 2) for task, weight in balancer.task_weights(losses).items()}
        {'mood': 1.1, 'stars': 0.9}
    """

    levels = ("auto", "parameters")
    weight: Tensor
    known: Tensor

    def __init__(
        self,
        tasks: Sequence[str],
        primary: Sequence[str] = (),
        lr: float = 0.01,
        level: str = "auto",
        losses: LossBalancer | None = None,
    ) -> None:
        super().__init__(tasks, level, losses)
        unknown = [task for task in primary if task not in tasks]
        if unknown:
            raise UsageError(
                f"balancer.primary names {', '.join(unknown)}; the tasks are {', '.join(tasks)}"
            )
        if not lr > 0:
            raise UsageError(f"balancer.lr must be > 0, got {lr}")
        self.primary, self.lr = tuple(primary) or tuple(tasks), lr
        self.register_buffer("weight", torch.ones(len(tasks), dtype=torch.float64))
        self.register_buffer("known", torch.zeros(len(tasks), dtype=torch.bool))
        self.traces = TaskVectors(tasks)

    def combine(self, jacobian: Tensor, losses: Tensor, tasks: Sequence[str]) -> Tensor:
        self.traces.allocate(jacobian[0])
        goals = [row for task, row in zip(tasks, jacobian, strict=True) if task in self.primary]
        if goals:
            self._learn(torch.stack(goals).sum(dim=0))
        self.known.zero_()
        numbers = [self.tasks.index(task) for task in tasks]
        for task, row in zip(tasks, jacobian, strict=True):
            self.traces[task].copy_(row)
        self.known[numbers] = True
        return self.weight[numbers].to(jacobian) @ jacobian

    def _learn(self, goal: Tensor) -> None:
        """Compare the last step's gradients with the primary tasks' new one."""
        for number, task in enumerate(self.tasks):
            if self.known[number]:
                cosine = torch.cosine_similarity(self.traces[task], goal, dim=0)
                self.weight[number] = (self.weight[number] + self.lr * cosine).clamp(min=0)

    def seen_weights(self, tasks: Sequence[str]) -> Tensor:
        return self.weight.cpu()[[self.tasks.index(task) for task in tasks]]

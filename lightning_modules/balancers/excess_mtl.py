"""Excess risks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_modules.balancers.base import LossBalancer
from lightning_modules.balancers.gradient_base import JacobianBalancer, TaskVectors
from pollinate.errors import UsageError


class ExcessMTL(JacobianBalancer):
    """Weights grow with how far each task's loss lies above the best that it could reach.

    The excess risk is estimated as e_t = g_t^T diag(h_t)^-1/2 g_t with h_t the sum of all squared
    gradients so far, divided by its mean in the task's first ``warmup`` steps, in which weights
    rest; w <- w exp(lr e) / sum, times T. Source: He et al. 2024, "Robust Multi-Task Learning with
    Excess Risks", equations 6, 7 and 9; the paper warms up for three epochs (appendix C.1), its
    code for one step. State: one vector a task.

    Args:
        tasks, losses: as for every ``GradientBalancer``; the level is ``parameters``.
        lr: > 0, of the weights.
        warmup: >= 1, steps that have the task.

    Examples:
        >>> import torch, pollinate as po
        >>> shared = torch.ones(2, requires_grad=True)
        >>> balancer = po.balancers.ExcessMTL(["mood", "stars"], lr=0.1)
        >>> for slope in (1.0, 0.1):  # stars comes near its best
        ...     losses = {"mood": shared[0], "stars": slope * shared[1]}
        ...     balancer.backward(losses)
        >>> {task: round(weight, 2) for task, weight in balancer.task_weights(losses).items()}
        {'mood': 1.03, 'stars': 0.97}
    """

    levels = ("auto", "parameters")
    weight: Tensor
    initial: Tensor
    seen_steps: Tensor

    def __init__(
        self,
        tasks: Sequence[str],
        lr: float = 0.01,
        warmup: int = 1,
        level: str = "auto",
        losses: LossBalancer | None = None,
    ) -> None:
        super().__init__(tasks, level, losses)
        if not lr > 0:
            raise UsageError(f"balancer.lr must be > 0, got {lr}")
        if warmup < 1:
            raise UsageError(f"balancer.warmup must be >= 1 step, got {warmup}")
        self.lr, self.warmup = lr, warmup
        self.register_buffer("weight", torch.ones(len(tasks), dtype=torch.float64))
        # the mean of e over the steps of the warm-up
        self.register_buffer("initial", torch.zeros(len(tasks), dtype=torch.float64))
        self.register_buffer("seen_steps", torch.zeros(len(tasks), dtype=torch.int64))
        self.traces = TaskVectors(tasks)

    def combine(self, jacobian: Tensor, losses: Tensor, tasks: Sequence[str]) -> Tensor:
        self.traces.allocate(jacobian[0])
        numbers = [self.tasks.index(task) for task in tasks]
        excess = torch.stack(
            [self._excess(task, row) for task, row in zip(tasks, jacobian, strict=True)]
        )
        initial, weights = self.initial.cpu()[numbers], self.weight.cpu()
        steps = self.seen_steps.cpu()[numbers] + 1
        warming = steps <= self.warmup
        initial = torch.where(warming, initial + (excess - initial) / steps, initial)
        scaled = excess / initial.clamp(min=1e-12)
        logits = weights[numbers].log() + self.lr * torch.where(warming, 0.0, scaled)
        weights[numbers] = torch.softmax(logits, dim=0) * weights[numbers].sum()
        self.initial[numbers] = initial.to(self.initial)
        self.seen_steps[numbers] = steps.to(self.seen_steps)
        self.weight.copy_(weights)
        return weights[numbers].to(jacobian) @ jacobian

    def _excess(self, task: str, gradient: Tensor) -> Tensor:
        squares = gradient.square()
        history = self.traces[task].add_(squares)
        return (squares / (history + 1e-7).sqrt()).sum().double().cpu()

    def seen_weights(self, tasks: Sequence[str]) -> Tensor:
        return self.weight.cpu()[[self.tasks.index(task) for task in tasks]]

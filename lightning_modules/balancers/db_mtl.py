"""Dual balancing."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_modules.balancers.base import LossBalancer
from lightning_modules.balancers.gradient_base import JacobianBalancer, TaskVectors
from lightning_modules.balancers.log_loss import LogLoss
from pollinate.errors import UsageError


class DBMTL(JacobianBalancer):
    """sum_t (max_s |y_s| / |y_t|) y_t: tracked gradients of log losses, all made equally long.

    y_t <- b_k y_t + (1 - b_k) g_t with b_k = beta / k^sigma at the task's step k, where g_t is the
    gradient of log(L_t + 1e-8), also in its head: ``losses`` is ``LogLoss`` unless given.
    Source: Lin et al. 2023, "Dual-Balancing for Multi-Task Learning", algorithm 1; beta and sigma
    as in the authors' code. y starts at the first gradient in place of 0, so that the first steps
    aren't short. State: one vector a task.

    Args:
        tasks: as for every ``GradientBalancer``; the level is ``parameters``.
        beta: in [0, 1); 0 takes each step's gradients as they are.
        sigma: >= 0, how fast the memory shortens.
        losses: a loss method that comes first; null: ``LogLoss``.

    Examples:
        >>> import torch, pollinate as po
        >>> shared = torch.ones(2, requires_grad=True)
        >>> losses = {"mood": 2 * shared[0], "stars": shared[1]}
        >>> po.balancers.DBMTL(["mood", "stars"]).backward(losses)
        >>> shared.grad  # log losses, of one length
        tensor([1., 1.])
    """

    levels = ("auto", "parameters")
    steps: Tensor
    weight: Tensor

    def __init__(
        self,
        tasks: Sequence[str],
        beta: float = 0.9,
        sigma: float = 0.0,
        level: str = "auto",
        losses: LossBalancer | None = None,
    ) -> None:
        super().__init__(tasks, level, LogLoss(tasks) if losses is None else losses)
        if not (0 <= beta < 1 and sigma >= 0):
            raise UsageError(
                f"balancer.beta must be in [0, 1) and balancer.sigma >= 0, got {beta} and {sigma}"
            )
        self.beta, self.sigma = beta, sigma
        self.register_buffer("steps", torch.zeros(len(tasks), dtype=torch.int64))
        self.register_buffer("weight", torch.ones(len(tasks), dtype=torch.float64))
        self.traces = TaskVectors(tasks)

    def combine(self, jacobian: Tensor, losses: Tensor, tasks: Sequence[str]) -> Tensor:
        self.traces.allocate(jacobian[0])
        numbers = [self.tasks.index(task) for task in tasks]
        for task, step, gradient in zip(tasks, self.steps[numbers].tolist(), jacobian, strict=True):
            kept = self.beta / (step + 1) ** self.sigma if step else 0.0
            self.traces[task].lerp_(gradient, 1 - kept)
        self.steps[numbers] += 1
        rows = torch.stack([self.traces[task] for task in tasks])
        lengths = torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64)
        weights = torch.where(lengths > 0, lengths.max() / lengths, 0)
        self.weight[numbers] = weights.to(self.weight)
        return weights.to(rows) @ rows

    def seen_weights(self, tasks: Sequence[str]) -> Tensor:
        return self.weight.cpu()[[self.tasks.index(task) for task in tasks]]

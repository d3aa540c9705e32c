"""Sum of the losses' logarithms."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_modules.balancers.base import Scalarization
from pollinate.errors import UsageError


class LogLoss(Scalarization):
    """s = sum_t log(L_t + epsilon), so w_t = 1 / (L_t + epsilon).

    Source: Lin et al. 2023, "Dual-Balancing for Multi-Task Learning" (DB-MTL), the balancing of
    loss scales.

    Args:
        tasks: names of all tasks of the run.
        epsilon: > 0; bounds a weight.

    Examples:
        >>> import torch, pollinate as po
        >>> balancer = po.balancers.LogLoss(["mood", "stars"])
        >>> losses = torch.tensor([2.0, 8.0], requires_grad=True)
        >>> balancer.backward({"mood": losses[0], "stars": losses[1]})
        >>> losses.grad  # each task's weight: 1 / L
        tensor([0.5000, 0.1250])
    """

    def __init__(self, tasks: Sequence[str], epsilon: float = 1e-8) -> None:
        super().__init__(tasks)
        if not epsilon > 0:
            raise UsageError(f"balancer.epsilon must be > 0, got {epsilon}")
        self.epsilon = epsilon

    def scalarize(self, losses: Tensor, tasks: Sequence[str]) -> Tensor:
        return torch.log(losses + self.epsilon).sum()

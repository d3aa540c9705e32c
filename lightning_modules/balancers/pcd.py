"""Priority-constrained descent."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, from_numpy

from lightning_modules.balancers.base import LossBalancer
from lightning_modules.balancers.gradient_base import GramianBalancer
from lightning_modules.balancers.solvers import Array, project_to_half_spaces
from pollinate.errors import UsageError

EPSILON = 1e-8  # of a squared length, before its root divides


class PCD(GramianBalancer):
    """The direction nearest to the primary task's that still helps every other task by a share.

    h_t = g_t / sqrt(v_t), v_t the average of |g_t|^2, with its bias corrected;
    x = argmin_x |x - h_primary|^2 with h_t . x >= tau |h_t|^2 for all other t, and the shared
    gradient is |g_primary| x / |x|. Constraints that contradict each other are dropped, and x is
    h_primary. A step without the primary task sums the others.
    Source: "Not All Objectives Are Born Equal: Priority-Constrained Descent for Hierarchical
    Multi-Objective Optimization", 2026; solved exactly by non-negative least squares.

    Args:
        tasks, level, losses: as for every ``GradientBalancer``.
        primary: the task that leads; null: the first by name.
        tau: in [0, 1], the share of what a step along its own gradient would give a task.
        decay: in [0, 1), of the averages.

    Raises:
        UsageError: as for every one; a primary task that there isn't; an option out of its range.

    Examples:
        >>> import torch, pollinate as po
        >>> shared = torch.ones(2, requires_grad=True)
        >>> losses = {"mood": 2 * shared[0], "stars": shared[1] - shared[0]}
        >>> po.balancers.PCD(["mood", "stars"], "mood", tau=0.5).backward(losses)
        >>> shared.grad  # stars gain, too
        tensor([0.3382, 1.9712])
    """

    square: Tensor
    steps: Tensor

    def __init__(
        self,
        tasks: Sequence[str],
        primary: str | None = None,
        tau: float = 0.02,
        decay: float = 0.999,
        level: str = "auto",
        losses: LossBalancer | None = None,
    ) -> None:
        super().__init__(tasks, level, losses)
        if primary is not None and primary not in tasks:
            raise UsageError(
                f"balancer.primary names {primary!r}; the tasks are {', '.join(tasks)}"
            )
        if not (0 <= tau <= 1 and 0 <= decay < 1):
            raise UsageError(
                f"balancer.tau must be in [0, 1] and balancer.decay in [0, 1), got {tau} and "
                f"{decay}"
            )
        self.primary, self.tau, self.decay = primary or min(tasks), tau, decay
        self.register_buffer("square", torch.zeros(len(tasks), dtype=torch.float64))
        self.register_buffer("steps", torch.zeros(len(tasks), dtype=torch.float64))

    def weights(self, gramian: Tensor, losses: Tensor, tasks: Sequence[str]) -> Tensor:
        scale = self._scales(gramian.diagonal(), tasks)
        if self.primary not in tasks:
            return torch.ones(len(tasks), dtype=torch.float64)
        lead = tasks.index(self.primary)
        scaled = np.asarray(gramian) * scale * scale[:, None]
        weights = nearest_helping(scaled, lead, self.tau)
        length = float(np.sqrt(np.maximum(weights @ scaled @ weights, 0.0)))
        if length <= 1e-7 * (np.abs(weights) @ np.sqrt(np.diagonal(scaled))):
            return torch.zeros(len(tasks), dtype=torch.float64)
        found: Tensor = from_numpy(weights * scale) * (gramian[lead, lead].sqrt() / length)
        return found

    def _scales(self, squares: Tensor, tasks: Sequence[str]) -> Array:
        """Return 1 / sqrt(v), after |g|^2 of this step was averaged in: (T,)."""
        numbers = [self.tasks.index(task) for task in tasks]
        square, steps = self.square.cpu()[numbers], self.steps.cpu()[numbers] + 1
        square = self.decay * square + (1 - self.decay) * squares
        self.square[numbers] = square.to(self.square)
        self.steps[numbers] = steps.to(self.steps)
        found: Array = (square / (1 - self.decay**steps) + EPSILON).rsqrt().numpy()
        return found


def nearest_helping(gramian: Array, lead: int, tau: float) -> Array:
    """Return the w of x = sum_t w_t h_t that is nearest to h_lead and helps all others: (T,).

    Args:
        gramian: (T, T) of the h_t.
        lead: number of the primary task.
        tau: h_t . x >= tau |h_t|^2 for all t but lead.
    """
    others = np.arange(len(gramian)) != lead
    rest = gramian[np.ix_(others, others)]
    weights: Array = np.zeros(len(gramian))
    weights[lead] = 1.0
    lacking = tau * np.diagonal(rest) - gramian[others, lead]
    if (lacking > 0).any():
        found = project_to_half_spaces(rest, lacking)
        if found is not None:
            weights[others] = found
    return weights

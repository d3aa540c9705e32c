"""Conflict-averse gradient descent."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import brentq
from torch import Tensor, from_numpy

from lightning_modules.balancers.base import LossBalancer
from lightning_modules.balancers.gradient_base import GramianBalancer
from lightning_modules.balancers.solvers import Array, min_norm
from pollinate.errors import UsageError


class CAGrad(GramianBalancer):
    """The d near the mean gradient g_0 that helps the worst task most, times T / (1 + c).

    max_d min_t g_t . d with |d - g_0| <= c |g_0|: d = g_0 + c |g_0| g_v / |g_v|, where v in the
    simplex minimises g_v . g_0 + c |g_0| |g_v| and g_v = sum_t v_t g_t.
    Source: Liu et al. 2021, "Conflict-Averse Gradient Descent for Multi-task Learning",
    algorithm 1.

    Args:
        tasks, level, losses: as for every ``GradientBalancer``.
        c: >= 0; 0 is the plain sum, a large c nears ``MGDA``.

    Examples:
        >>> import torch, pollinate as po
        >>> shared = torch.ones(2, requires_grad=True)
        >>> losses = {"mood": 3 * shared[0], "stars": shared[0]}
        >>> balancer = po.balancers.CAGrad(["mood", "stars"], c=0.5)
        >>> balancer.backward(losses)
        >>> {task: round(weight, 2) for task, weight in balancer.task_weights(losses).items()}
        {'mood': 0.67, 'stars': 2.0}
    """

    def __init__(
        self,
        tasks: Sequence[str],
        c: float = 0.4,
        level: str = "auto",
        losses: LossBalancer | None = None,
    ) -> None:
        super().__init__(tasks, level, losses)
        if not c >= 0:
            raise UsageError(f"balancer.c must be >= 0, got {c}")
        self.c = c

    def weights(self, gramian: Tensor, losses: Tensor, tasks: Sequence[str]) -> Tensor:
        matrix = np.asarray(gramian)
        count = len(matrix)
        radius = self.c * np.sqrt(np.maximum(matrix.mean(), 0))
        weights = np.full(count, 1 / count)
        if radius > 1e-12 * np.sqrt(matrix.max()):
            v = conflict_averse(matrix, radius)
            length = np.sqrt(np.maximum(v @ matrix @ v, 0))
            if length > 1e-10 * np.sqrt(matrix.max()):
                weights = weights + radius / length * v
        return from_numpy(weights) * count / (1 + self.c)


def conflict_averse(gramian: Array, radius: float) -> Array:
    """Return argmin_v g_v . g_0 + radius |g_v| over the simplex: (T,).

    |g_v| = min_s (s + |g_v|^2 / s) / 2: for a given length s > 0 the minimum is the point of
    least norm among g_t + (s / radius) g_0, and s is right where it is that point's |g_v|.
    """
    longest = float(np.sqrt(np.diagonal(gramian).max()))

    def point(length: float) -> Array:
        return min_norm(shifted(gramian, length / radius))

    def excess(length: float) -> float:
        v = point(length)
        return length - float(np.sqrt(np.maximum(v @ gramian @ v, 0)))

    shortest = 1e-9 * longest
    if excess(shortest) >= 0:
        return point(shortest)
    return point(brentq(excess, shortest, longest * (1 + 1e-9), xtol=1e-12 * longest, rtol=1e-12))


def shifted(gramian: Array, factor: float, preference: Array | None = None) -> Array:
    """Return the Gramian of the points g_t + factor g_0, g_0 = sum_t p_t g_t / T: (T, T).

    Args:
        preference: p, (T,); None: ones, so that g_0 is the mean of all g_t.
    """
    count = len(gramian)
    share = (np.ones(count) if preference is None else preference) / count
    means = gramian @ share
    square = factor**2 * (share @ means)
    moved: Array = gramian + factor * (means[:, None] + means[None, :]) + square
    return moved

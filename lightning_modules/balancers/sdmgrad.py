"""Direction-oriented multi-objective descent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor, from_numpy

from lightning_modules.balancers.base import LossBalancer
from lightning_modules.balancers.cagrad import shifted
from lightning_modules.balancers.gradient_base import PreferenceBalancer
from lightning_modules.balancers.solvers import Array, min_norm
from pollinate.errors import UsageError


class SDMGrad(PreferenceBalancer):
    """w = (T v + strength p) / (1 + strength), v = argmin_v |g_v + strength g_0|^2 in the simplex.

    g_v = sum_t v_t g_t and g_0 = sum_t p_t g_t / T, the mean by default. Source: Xiao, Ban and Ji
    2023, "Direction-oriented Multi-objective Learning", equation 6, solved exactly for each step's
    gradients in place of their few steps of stochastic gradient descent on v.

    Args:
        tasks, preference, level, losses: as for every ``PreferenceBalancer``.
        strength: >= 0, lambda of the paper; 0 is ``MGDA``, a large one nears the plain sum.

    Examples:
        >>> import torch, pollinate as po
        >>> shared = torch.ones(2, requires_grad=True)
        >>> losses = {"mood": 2 * shared[0], "stars": shared[1]}
        >>> po.balancers.SDMGrad(["mood", "stars"], strength=1.0).backward(losses)
        >>> shared.grad
        tensor([1.0000, 1.5000])
    """

    def __init__(
        self,
        tasks: Sequence[str],
        strength: float = 0.3,
        preference: Mapping[str, float] | None = None,
        level: str = "auto",
        losses: LossBalancer | None = None,
    ) -> None:
        super().__init__(tasks, preference, level, losses)
        if not strength >= 0:
            raise UsageError(f"balancer.strength must be >= 0, got {strength}")
        self.strength = strength

    def weights(self, gramian: Tensor, losses: Tensor, tasks: Sequence[str]) -> Tensor:
        p = self.preferred(tasks)
        v = direction(np.asarray(gramian), self.strength, p)
        return from_numpy((v * len(tasks) + self.strength * p) / (1 + self.strength))


def direction(gramian: Array, strength: float, preference: Array) -> Array:
    """Return v: (T,)."""
    points = shifted(gramian, strength, preference)
    nothing = np.diagonal(points) <= 1e-14 * np.diagonal(gramian).max()
    # a point at the origin is the one of least norm
    return nothing / nothing.sum() if nothing.any() else min_norm(points)

"""Conflict-free gradients."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor, from_numpy

from lightning_modules.balancers.gradient_base import PreferenceBalancer
from lightning_modules.balancers.solvers import lengths_and_cosines


class ConFIG(PreferenceBalancer):
    """d = (sum_t g_t . x) x with x = U^+ p / |U^+ p|, where row t of U is g_t / |g_t|.

    The tasks' gradients have cosines with d in the ratio of p: equal ones by default. In weights,
    x is that of D^-1 C^+ p for G = D C D. Source: Liu, Chu and Thuerey 2024, "ConFIG: Towards
    Conflict-free Training of Physics Informed Neural Networks", equation 2.

    Args:
        tasks, preference, level, losses: as for every ``PreferenceBalancer``.

    Examples:
        >>> import torch, pollinate as po
        >>> shared = torch.ones(2, requires_grad=True)
        >>> losses = {"mood": 2 * shared[0], "stars": shared[1]}
        >>> po.balancers.ConFIG(["mood", "stars"]).backward(losses)
        >>> shared.grad  # the same angle to both
        tensor([1.5000, 1.5000])
    """

    def weights(self, gramian: Tensor, losses: Tensor, tasks: Sequence[str]) -> Tensor:
        lengths, cosines = lengths_and_cosines(gramian)
        v = np.linalg.pinv(cosines, rcond=1e-12, hermitian=True) @ self.preferred(tasks)
        length = v @ cosines @ v  # squared, of U^+ p
        if length <= 1e-12:
            return from_numpy(np.zeros(len(tasks)))
        along = lengths @ cosines @ v / length
        return from_numpy(along * v / lengths)

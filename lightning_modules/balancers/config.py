"""Conflict-free gradients."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor, from_numpy

from lightning_modules.balancers.gradient_base import GramianBalancer
from lightning_modules.balancers.solvers import lengths_and_cosines


class ConFIG(GramianBalancer):
    """d = (sum_t g_t . x) x with x = U^+ 1 / |U^+ 1|, where row t of U is g_t / |g_t|.

    All tasks' gradients have the same cosine with d. In weights, x is that of D^-1 C^+ 1 for
    G = D C D. Source: Liu, Chu and Thuerey 2024, "ConFIG: Towards Conflict-free Training of
    Physics Informed Neural Networks", equation 2.

    Args:
        tasks, level, losses: as for every ``GradientBalancer``.

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
        v = np.linalg.pinv(cosines, rcond=1e-12, hermitian=True).sum(axis=1)
        length = v @ cosines @ v  # squared, of U^+ 1
        if length <= 1e-12:
            return from_numpy(np.zeros(len(tasks)))
        along = lengths @ cosines @ v / length
        return from_numpy(along * v / lengths)

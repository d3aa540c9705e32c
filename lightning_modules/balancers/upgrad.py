"""Unconflicting projection of gradients."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor, from_numpy

from lightning_modules.balancers.gradient_base import PreferenceBalancer
from lightning_modules.balancers.solvers import dual_cone


class UPGrad(PreferenceBalancer):
    """Sum of all p_t g_t, each projected onto the cone of directions that harm no task.

    w = sum_t p_t argmin_{v >= e_t} v^T G v, so that no task conflicts with the result: J J^T w is
    not negative. Source: Quinton and Rey 2024, "Jacobian Descent for Multi-Objective Optimization",
    section 3.

    Args:
        tasks, preference, level, losses: as for every ``PreferenceBalancer``.

    Examples:
        >>> import torch, pollinate as po
        >>> shared = torch.ones(2, requires_grad=True)
        >>> losses = {"mood": 2 * shared[0], "stars": shared[1] - shared[0]}  # they conflict
        >>> po.balancers.UPGrad(["mood", "stars"]).backward(losses)
        >>> shared.grad  # against neither (2, 0) nor (-1, 1)
        tensor([1., 2.])
    """

    def weights(self, gramian: Tensor, losses: Tensor, tasks: Sequence[str]) -> Tensor:
        projections = [dual_cone(gramian, e) for e in np.eye(len(tasks))]
        return from_numpy(self.preferred(tasks) @ projections)

"""Projection of the summed gradient."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, from_numpy

from lightning_modules.balancers.gradient_base import PreferenceBalancer
from lightning_modules.balancers.solvers import dual_cone


class DualProj(PreferenceBalancer):
    """sum_t p_t g_t projected onto the cone of directions that harm no task.

    w = argmin_{v >= p} v^T G v. Source: Lopez-Paz and Ranzato 2017, "Gradient Episodic Memory",
    equation 11, with the sum of the tasks' gradients in place of the last task's.

    Args:
        tasks, preference, level, losses: as for every ``PreferenceBalancer``.

    Examples:
        >>> import torch, pollinate as po
        >>> shared = torch.ones(2, requires_grad=True)
        >>> losses = {"mood": 2 * shared[0], "stars": 0.5 * shared[1] - shared[0]}  # they conflict
        >>> po.balancers.DualProj(["mood", "stars"]).backward(losses)
        >>> shared.grad  # the sum (1, 0.5) would raise the loss of stars, this doesn't
        tensor([0.4000, 0.8000])
    """

    def weights(self, gramian: Tensor, losses: Tensor, tasks: Sequence[str]) -> Tensor:
        return from_numpy(dual_cone(gramian, self.preferred(tasks)))

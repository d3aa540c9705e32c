"""Multiple-gradient descent."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, from_numpy

from lightning_modules.balancers.gradient_base import GramianBalancer
from lightning_modules.balancers.solvers import min_norm


class MGDA(GramianBalancer):
    """w = T argmin_w |sum_t w_t g_t|^2 over the simplex: no direction helps the worst task more.

    Solved exactly. Source: Desideri 2012, "Multiple-gradient descent algorithm (MGDA) for
    multiobjective optimization", and Sener and Koltun 2018.

    Args:
        tasks, level, losses: as for every ``GradientBalancer``.

    Examples:
        >>> import torch, pollinate as po
        >>> shared = torch.ones(2, requires_grad=True)
        >>> losses = {"mood": 2 * shared[0], "stars": shared[1] - shared[0]}  # they conflict
        >>> po.balancers.MGDA(["mood", "stars"]).backward(losses)
        >>> shared.grad  # 0.8 of the one's gradient, 1.2 of the other's
        tensor([0.4000, 1.2000])
    """

    def weights(self, gramian: Tensor, losses: Tensor, tasks: Sequence[str]) -> Tensor:
        return from_numpy(min_norm(gramian)) * len(tasks)

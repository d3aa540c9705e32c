"""Multiple-gradient descent."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, from_numpy

from lightning_modules.balancers.base import LossBalancer
from lightning_modules.balancers.gradient_base import GramianBalancer
from lightning_modules.balancers.solvers import min_norm
from pollinate.errors import UsageError

NORMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "none": lambda lengths, losses: torch.ones_like(lengths),
    "l2": lambda lengths, losses: lengths,
    "loss": lambda lengths, losses: losses,
    "loss+": lambda lengths, losses: losses * lengths,
}


class MGDA(GramianBalancer):
    """w = T argmin_w |sum_t w_t g_t / c_t|^2 over the simplex: no direction helps the worst more.

    Solved exactly. Source: Desideri 2012, "Multiple-gradient descent algorithm (MGDA) for
    multiobjective optimization", and Sener and Koltun 2018, whose code has the norms c_t.

    Args:
        tasks, level, losses: as for every ``GradientBalancer``.
        norm: c_t is 1 (``none``), |g_t| (``l2``), L_t (``loss``) or L_t |g_t| (``loss+``). Without
            it, the shortest gradient gets most of the weight. A loss <= 0 counts as the smallest
            positive number.

    Examples:
        >>> import torch, pollinate as po
        >>> shared = torch.ones(2, requires_grad=True)
        >>> losses = {"mood": 2 * shared[0], "stars": shared[1] - shared[0]}  # they conflict
        >>> po.balancers.MGDA(["mood", "stars"]).backward(losses)
        >>> shared.grad  # 0.8 of the one's gradient, 1.2 of the other's
        tensor([0.4000, 1.2000])
    """

    def __init__(
        self,
        tasks: Sequence[str],
        norm: str = "none",
        level: str = "auto",
        losses: LossBalancer | None = None,
    ) -> None:
        super().__init__(tasks, level, losses)
        if norm not in NORMS:
            raise UsageError(f"balancer.norm must be {' or '.join(NORMS)}, got {norm}")
        self.norm = norm

    def weights(self, gramian: Tensor, losses: Tensor, tasks: Sequence[str]) -> Tensor:
        positive = losses.clamp(min=torch.finfo(losses.dtype).tiny)
        scale = NORMS[self.norm](gramian.diagonal().sqrt(), positive)
        scale = scale / scale.max()
        return from_numpy(min_norm(gramian / scale / scale[:, None])) * len(tasks)

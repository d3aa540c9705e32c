"""Multi-objective descent with double sampling."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from lightning_modules.balancers.base import LossBalancer
from lightning_modules.balancers.double_sampling import DoubleSampling
from lightning_modules.balancers.solvers import project_to_simplex
from pollinate.errors import UsageError


class MoDo(DoubleSampling):
    """T sum_t v_t g_t, v <- P(v - gamma (A B^T + rho) v), P onto the simplex.

    A and B are the Jacobians of two batches: see ``DoubleSampling`` for which. Source: Chen et al.
    2023, "Three-Way Trade-Off in Multi-Objective Learning", algorithm 1 (MoDo).

    Args:
        tasks, level, losses: as for every ``DoubleSampling``.
        gamma: > 0, step of v.
        rho: >= 0, pull of v towards equal weights.

    Examples:
        >>> import torch, pollinate as po
        >>> shared = torch.ones(2, requires_grad=True)
        >>> losses = {"mood": 2 * shared[0], "stars": shared[1]}
        >>> po.balancers.MoDo(["mood", "stars"]).backward(losses)
        >>> shared.grad  # a first step has no other batch
        tensor([2., 1.])
    """

    def __init__(
        self,
        tasks: Sequence[str],
        gamma: float = 0.1,
        rho: float = 0.1,
        level: str = "auto",
        losses: LossBalancer | None = None,
    ) -> None:
        super().__init__(tasks, level, losses)
        if not (gamma > 0 and rho >= 0):
            raise UsageError(
                f"balancer.gamma must be > 0 and balancer.rho >= 0, got {gamma} and {rho}"
            )
        self.gamma, self.rho = gamma, rho

    def descend(self, share: Tensor, products: Tensor, tasks: Sequence[str]) -> Tensor:
        return project_to_simplex(share - self.gamma * (products @ share + self.rho * share))

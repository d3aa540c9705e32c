"""Nash bargaining."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, from_numpy

from lightning_modules.balancers.gradient_base import GramianBalancer
from lightning_modules.balancers.solvers import fair


class NashMTL(GramianBalancer):
    """G w = 1 / w, the Nash bargaining solution of the tasks, for G divided by its mean diagonal.

    Dividing G keeps the step's size in proportion to the gradients; w^T G w is then T times the
    mean of |g_t|^2. Source: Navon et al. 2022, "Multi-Task Learning as a Bargaining Game", claim
    3.1; solved by Newton's method in place of their sequence of convex problems.

    Args:
        tasks, level, losses: as for every ``GradientBalancer``.

    Examples:
        >>> import torch, pollinate as po
        >>> shared = torch.ones(2, requires_grad=True)
        >>> losses = {"mood": 2 * shared[0], "stars": shared[1]}
        >>> po.balancers.NashMTL(["mood", "stars"]).backward(losses)
        >>> shared.grad  # the shorter gradient got the larger weight
        tensor([1.5811, 1.5811])
    """

    def weights(self, gramian: Tensor, losses: Tensor, tasks: Sequence[str]) -> Tensor:
        return from_numpy(fair(gramian / gramian.diagonal().mean(), power=1.0))

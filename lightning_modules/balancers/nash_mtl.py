"""Nash bargaining."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, from_numpy

from lightning_modules.balancers.base import LossBalancer
from lightning_modules.balancers.gradient_base import GramianBalancer
from lightning_modules.balancers.solvers import fair, mean_length_one


class NashMTL(GramianBalancer):
    """G w = 1 / w, the Nash bargaining solution of the tasks, for G divided by its mean diagonal.

    The direction doesn't depend on what G is divided by. The paper leaves the length open ("up to
    scaling"): of G itself, sum_t w_t g_t has the length sqrt(T) at every step, and the authors'
    code divides by |G|_F and clips the length at 1. Here it is sqrt(T mean |g_t|^2), as long as
    the sum of orthogonal gradients. Source: Navon et al. 2022, "Multi-Task Learning as a
    Bargaining Game", claim 3.1; solved by Newton's method in place of their sequence of convex
    problems. Where gradients cancel out, the weights are bounded and the sum tends to 0.

    Args:
        tasks, level, losses: as for every ``GradientBalancer``.
        normalize: False: G is taken as it is, so that the length is sqrt(T).

    Examples:
        >>> import torch, pollinate as po
        >>> shared = torch.ones(2, requires_grad=True)
        >>> losses = {"mood": 2 * shared[0], "stars": shared[1]}
        >>> po.balancers.NashMTL(["mood", "stars"]).backward(losses)
        >>> shared.grad  # the shorter gradient got the larger weight
        tensor([1.5811, 1.5811])
    """

    def __init__(
        self,
        tasks: Sequence[str],
        normalize: bool = True,
        level: str = "auto",
        losses: LossBalancer | None = None,
    ) -> None:
        super().__init__(tasks, level, losses)
        self.normalize = normalize

    def weights(self, gramian: Tensor, losses: Tensor, tasks: Sequence[str]) -> Tensor:
        return from_numpy(fair(mean_length_one(gramian) if self.normalize else gramian, power=1.0))

"""Alpha-fair gradients."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, from_numpy

from lightning_modules.balancers.base import LossBalancer
from lightning_modules.balancers.gradient_base import GramianBalancer
from lightning_modules.balancers.solvers import fair, mean_length_one
from pollinate.errors import UsageError

LEAST, MOST = 0.2, 100.0  # beyond, float64 is too coarse for w^(-1 / alpha)


class FairGrad(GramianBalancer):
    """G w = w^(-1 / alpha), for G divided by its mean diagonal.

    alpha = 1 is proportional fairness, the same as ``NashMTL``; a large alpha nears max-min
    fairness. The division leaves the direction as it is, and the length in proportion to the
    gradients. Source: Ban and Ji 2024, "Fair Resource Allocation in Multi-Task Learning",
    equation 7.

    Args:
        tasks, level, losses: as for every ``GradientBalancer``.
        alpha: in [0.2, 100].
        normalize: False: G is taken as it is, as in the paper; the length of the result then goes
            with the gradients' length to the power (1 - alpha) / (1 + alpha).

    Examples:
        >>> import torch, pollinate as po
        >>> shared = torch.ones(2, requires_grad=True)
        >>> losses = {"mood": 2 * shared[0], "stars": shared[1]}
        >>> po.balancers.FairGrad(["mood", "stars"], alpha=0.5).backward(losses)
        >>> shared.grad
        tensor([1.7100, 1.3572])
    """

    def __init__(
        self,
        tasks: Sequence[str],
        alpha: float = 1.0,
        normalize: bool = True,
        level: str = "auto",
        losses: LossBalancer | None = None,
    ) -> None:
        super().__init__(tasks, level, losses)
        if not LEAST <= alpha <= MOST:
            raise UsageError(f"balancer.alpha must be in [{LEAST:g}, {MOST:g}], got {alpha}")
        self.alpha, self.normalize = alpha, normalize

    def weights(self, gramian: Tensor, losses: Tensor, tasks: Sequence[str]) -> Tensor:
        matrix = mean_length_one(gramian) if self.normalize else gramian
        return from_numpy(fair(matrix, power=1 / self.alpha))

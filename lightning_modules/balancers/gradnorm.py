"""Gradient normalisation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_modules.balancers.base import LossBalancer
from lightning_modules.balancers.gradient_base import GramianBalancer
from pollinate.errors import UsageError


class GradNorm(GramianBalancer):
    """Learnt weights that bring w_t |g_t| to its mean over tasks, times r_t^alpha.

    r_t is L_t / L_t(0) divided by its mean: tasks that train slowly get a larger gradient. A step
    of gradient descent on sum_t |w_t |g_t| - mean r_t^alpha|, the target held fixed, is followed
    by sum_t w_t = T. Source: Chen et al. 2018, "GradNorm", equations 1 and 2; on all shared
    parameters, not only the last shared layer.

    Args:
        tasks, level, losses: as for every ``GradientBalancer``.
        alpha: >= 0, how strongly training rates are evened out.
        lr: > 0, of w; the gradient lengths are divided by their mean, so that it has no unit. The
            steps keep their size, so that weights go on swinging about their target, the more the
            larger it is: by 8% of themselves at 0.025, and 3% at 0.005, which takes 200 steps to
            get there (benchmarks.gradnorm_rate).

    Examples:
        >>> import torch, pollinate as po
        >>> shared = torch.ones(2, requires_grad=True)
        >>> balancer = po.balancers.GradNorm(["mood", "stars"], lr=0.1)
        >>> losses = {"mood": 4 * shared[0], "stars": shared[1]}
        >>> for _ in range(2):
        ...     balancer.backward(losses)
        >>> balancer.task_weights(losses)["mood"] < 1 < balancer.task_weights(losses)["stars"]
        True
    """

    weight: Tensor
    initial: Tensor

    def __init__(
        self,
        tasks: Sequence[str],
        alpha: float = 1.5,
        lr: float = 0.005,
        level: str = "auto",
        losses: LossBalancer | None = None,
    ) -> None:
        super().__init__(tasks, level, losses)
        if not (alpha >= 0 and lr > 0):
            raise UsageError(
                f"balancer.alpha must be >= 0 and balancer.lr > 0, got {alpha} and {lr}"
            )
        self.alpha, self.lr = alpha, lr
        self.register_buffer("weight", torch.ones(len(tasks), dtype=torch.float64))
        self.register_buffer("initial", torch.full((len(tasks),), torch.nan, dtype=torch.float64))

    def weights(self, gramian: Tensor, losses: Tensor, tasks: Sequence[str]) -> Tensor:
        numbers = [self.tasks.index(task) for task in tasks]
        all_weights, initial = self.weight.cpu(), self.initial.cpu()
        initial[numbers] = torch.where(initial[numbers].isnan(), losses, initial[numbers])
        before = all_weights[numbers]
        all_weights[numbers] = self._learn(before, gramian, losses / initial[numbers])
        self.weight.copy_(all_weights)
        self.initial.copy_(initial)
        return before

    def _learn(self, weights: Tensor, gramian: Tensor, progress: Tensor) -> Tensor:
        """Return w after a step of descent; the present tasks keep their sum."""
        lengths = gramian.diagonal().sqrt()
        norms = weights * lengths / (weights * lengths).mean()
        rates = (progress / progress.mean()).clamp(min=0)
        slope = torch.sign(norms - rates**self.alpha) * lengths / lengths.mean()
        learnt = (weights - self.lr * slope).clamp(min=1e-3)
        return learnt * weights.sum() / learnt.sum()

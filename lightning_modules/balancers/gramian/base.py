"""Balancers that weigh the tasks' gradients by their inner products."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_modules.balancers.gradient.base import GradientBalancer, Seen
from lightning_modules.balancers.gradient.shared import Shared
from pipeline.errors import PollinateError


class GramianBalancer(GradientBalancer):
    """Shared gradient = sum_t w_t g_t, where w is a function of G = J J^T and the losses.

    Where gradients are orthogonal and of one length, all w_t are 1, the gradient of the plain
    sum: what a paper normalises to sum_t w_t = 1 is multiplied by the number of tasks here.
    """

    @abstractmethod
    def weights(self, gramian: Tensor, losses: Tensor, tasks: Sequence[str]) -> Tensor:
        """Return the weights: (T,).

        Args:
            gramian: (T, T), float64, on the CPU; its diagonal is positive.
            losses: (T,), float64.
            tasks: (T,) the names of the present tasks.
        """

    def weigh(self, gramian: Tensor, losses: Tensor, tasks: Sequence[str]) -> Tensor:
        """Return ``weights`` of the tasks that have a gradient, and 0 for the others: (T,).

        A Gramian that isn't finite gets ones: the gradient then shows what is wrong to the
        precision plugin, or to the rule for losses that are no number.
        """
        if not torch.isfinite(gramian).all():
            return torch.ones(len(tasks), dtype=torch.float64)
        has = gramian.diagonal() > 0
        found = torch.zeros(len(tasks), dtype=torch.float64)
        if has.any():
            names = [task for task, flag in zip(tasks, has.tolist(), strict=True) if flag]
            found[has] = self.weights(gramian[has][:, has], losses[has], names)
        if not torch.isfinite(found).all():
            raise PollinateError(
                f"balancer {type(self).__name__} found no weights for the Gramian "
                f"{gramian.tolist()} of {', '.join(tasks)}; please report it, and use another"
            )
        return found

    def _combine(self, shared: Shared, tasks: Sequence[str], losses: Tensor, scale: float) -> None:
        gramian = shared.gramian(tasks) / scale**2
        weights = self.weigh(gramian, losses, tasks)
        shared.apply(tasks, weights)
        self.seen = Seen(tuple(tasks), gramian, weights)

"""Balancers that are one function of the losses."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from lightning_modules.balancers.loss.base import LossBalancer


class Scalarization(LossBalancer):
    """Minimises s(L_1, ..., L_P); a task's weight is ds / dL_t."""

    @abstractmethod
    def scalarize(self, losses: Tensor, tasks: Sequence[str]) -> Tensor:
        """Return s, differentiable.

        Args:
            losses: (P,) of the present tasks.
            tasks: (P,) their names, in the same order.
        """

    def objective(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Return s of the losses of the tasks that this step has."""
        return self.scalarize(torch.stack(list(losses.values())), list(losses))

    def weights(self, losses: Tensor, tasks: Sequence[str]) -> Tensor:
        """Return ds / dL: (P,)."""
        with torch.enable_grad():
            values = losses.detach().requires_grad_()
            (found,) = torch.autograd.grad(self.scalarize(values, tasks), values)
        return found

"""Balancers that combine the tasks' gradients number by number."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_modules.balancers.gradient.base import GradientBalancer, Seen
from lightning_modules.balancers.gradient.ranks import gramian
from lightning_modules.balancers.gradient.shared import Shared


class JacobianBalancer(GradientBalancer):
    """Shared gradient = A(J), a function of the tasks' gradients themselves.

    Scaled like a ``GramianBalancer``: T times a mean. Under several processes every one of them
    has the whole Jacobian.
    """

    @abstractmethod
    def combine(self, jacobian: Tensor, losses: Tensor, tasks: Sequence[str]) -> Tensor:
        """Return the shared gradient: (P,).

        Args:
            jacobian: (T, P), row t = task t's gradient.
            losses: (T,), float64.
            tasks: (T,) the names of the present tasks.
        """

    def _combine(self, shared: Shared, tasks: Sequence[str], losses: Tensor, scale: float) -> None:
        jacobian = shared.jacobian(tasks)
        if not torch.isfinite(jacobian.sum()):
            shared.apply_vector(jacobian.sum(dim=0))  # shown to the precision plugin, or the rule
            return
        if scale != 1:
            jacobian = jacobian / scale
        found = self.combine(jacobian, losses, tasks)
        products = gramian(jacobian).cpu() if self.watched else None
        self.seen = Seen(tuple(tasks), products, self.seen_weights(tasks))
        shared.apply_vector(found * scale if scale != 1 else found)

    def seen_weights(self, tasks: Sequence[str]) -> Tensor | None:
        """Return the weights of the last step for the log: (T,), or None if it has none."""
        return None

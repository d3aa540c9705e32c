"""One of several classes."""

from __future__ import annotations

from torch import Tensor

from lightning_modules.comparisons.base import Comparison, Divergence
from lightning_modules.transfer.divergences.mean import mean_logits


class Choice(Comparison):
    """Outputs are logits (N, C) of classes of which one is right."""

    exclusive = True

    def apart(self, student: Tensor, teacher: Tensor, divergence: Divergence) -> Tensor:
        """Return the divergence: (N,)."""
        return divergence(student, teacher)

    def mean(self, outputs: Tensor, shares: Tensor, temperature: float) -> Tensor:
        """Return the logits of the mean probabilities: (N, C)."""
        return mean_logits(outputs, shares, temperature)

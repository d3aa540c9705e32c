"""A yes or no to each of several questions."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_modules.comparisons.base import Comparison, Divergence
from lightning_modules.transfer.divergences.mean import mean_logits


class YesNo(Comparison):
    """Outputs are a logit a question, (N, Q): s(z) = softmax(0, z), a choice of two.

    Args:
        ordered: whether the questions' order is part of what they mean.
    """

    def __init__(self, ordered: bool = False) -> None:
        self.ordered = ordered

    def apart(self, student: Tensor, teacher: Tensor, divergence: Divergence) -> Tensor:
        """Return the mean divergence over the questions: (N,)."""
        return divergence(both(student), both(teacher)).mean(dim=1)

    def mean(self, outputs: Tensor, shares: Tensor, temperature: float) -> Tensor:
        """Return the logits of the mean probabilities: (N, Q)."""
        every = shares[..., None].expand(outputs.shape)
        found = mean_logits(both(outputs), every, temperature)
        return found[..., 1] - found[..., 0]


def both(logits: Tensor) -> Tensor:
    """Return logits of no and yes: (...) -> (..., 2)."""
    return torch.stack([torch.zeros_like(logits), logits], dim=-1)

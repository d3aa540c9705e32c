"""What several teachers say together."""

from __future__ import annotations

from torch import Tensor

from lightning_modules.transfer.divergences.soft import log_soft


def mean_logits(logits: Tensor, shares: Tensor, temperature: float) -> Tensor:
    """Return z with softmax(z / T) = sum_k w_k softmax(z_k / T): (..., C).

    Args:
        logits: (K, ..., C) of K teachers.
        shares: (K, ...) weights w that sum to 1 over the teachers; 0 leaves one out.
        temperature: T, > 0.

    Source: Hinton, Vinyals & Dean 2015, section 1: the arithmetic mean of an ensemble.
    """
    weighted = log_soft(logits, temperature) + shares.log()[..., None]
    return temperature * weighted.logsumexp(dim=0)

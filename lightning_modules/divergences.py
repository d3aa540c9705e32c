"""Softened outputs: a student's divergence from a teacher, and the mean of several teachers."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def soft_divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return T^2 KL(softmax(teacher / T) || softmax(student / T)): (...).

    The gradient to the student's logits falls with 1 / T^2, which the factor undoes.

    Args:
        student, teacher: (..., C) logits.
        temperature: T, > 0.

    Source: Hinton, Vinyals & Dean 2015, section 2.
    """
    own = log_soft(student, temperature)
    theirs = log_soft(teacher, temperature)
    apart = functional.kl_div(own, theirs, reduction="none", log_target=True)
    return temperature**2 * apart.sum(dim=-1)


def log_soft(logits: Tensor, temperature: float) -> Tensor:
    """Return log softmax(logits / T), in float32 at least: (..., C)."""
    precise = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return functional.log_softmax(precise / temperature, dim=-1)


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

"""Softened outputs: a student's divergence from a teacher, and the mean of several teachers."""

from __future__ import annotations

import math

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
    return temperature**2 * log_kl(theirs, own)


def generalized_divergence(
    student: Tensor, teacher: Tensor, beta: float, temperature: float = 1.0
) -> Tensor:
    """Return D_b of p = softmax(teacher / T) and q = softmax(student / T): (...).

    D_0 = KL(p || q), forward; D_1 = KL(q || p), reverse; and between them the generalised
    Jensen-Shannon divergence

    D_b = b KL(p || m) + (1 - b) KL(q || m), m = b p + (1 - b) q,

    which falls to 0 towards both ends: D_b / b goes to D_0, and D_b / (1 - b) to D_1. There is no
    factor T^2.

    Args:
        student, teacher: (..., C) logits.
        beta: b, in [0, 1].
        temperature: T, > 0.

    Source: Agarwal et al. 2024, "On-policy distillation of language models", equation 1 and
        section 2.
    """
    q, p = log_soft(student, temperature), log_soft(teacher, temperature)
    if beta == 0:
        return log_kl(p, q)
    if beta == 1:
        return log_kl(q, p)
    m = torch.logaddexp(p + math.log(beta), q + math.log1p(-beta))
    return beta * log_kl(p, m) + (1 - beta) * log_kl(q, m)


def log_kl(p: Tensor, q: Tensor) -> Tensor:
    """Return KL(p || q) of logarithms of probabilities (..., C): (...)."""
    return functional.kl_div(q, p, reduction="none", log_target=True).sum(dim=-1)


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

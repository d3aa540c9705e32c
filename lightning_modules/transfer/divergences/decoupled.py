"""The divergence from a teacher in two parts: the target class, and the others among each other."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_modules.transfer.divergences.soft import log_soft, soft_divergence


def decoupled_divergence(
    student: Tensor,
    teacher: Tensor,
    target: Tensor,
    temperature: float,
    target_weight: float,
    others_weight: float,
) -> Tensor:
    """Return T^2 (a KL(b_teacher || b_student) + b KL(p_teacher || p_student)): (N,).

    b = (p_t, 1 - p_t) says whether it is the target class t; p are the probabilities of the other
    classes, given that it isn't. Their plain sum would weigh the second part by 1 - p_t of the
    teacher, little where it is sure.

    Args:
        student, teacher: (N, C) logits.
        target: (N,) class numbers t.
        temperature: T, > 0.
        target_weight, others_weight: a and b.

    Source: Zhao, Cui, Song, Qiu & Liang 2022, equation 7.
    """
    chosen = torch.zeros_like(student, dtype=torch.bool).scatter(1, target[:, None], True)
    binary = [in_or_out(log_soft(logits, temperature), chosen) for logits in (student, teacher)]
    others = [rest(logits, chosen) for logits in (student, teacher)]
    of_target = temperature**2 * soft_divergence(binary[0], binary[1], 1.0)
    of_others = soft_divergence(others[0], others[1], temperature)
    return target_weight * of_target + others_weight * of_others


def in_or_out(log_p: Tensor, chosen: Tensor) -> Tensor:
    """Return (log p_t, log(1 - p_t)): (N, C) -> (N, 2)."""
    inside = log_p.masked_fill(~chosen, -math.inf).logsumexp(dim=1)
    outside = log_p.masked_fill(chosen, -math.inf).logsumexp(dim=1)
    return torch.stack([inside, outside], dim=1)


def rest(logits: Tensor, chosen: Tensor) -> Tensor:
    """Return the logits of all classes but one: (N, C) -> (N, C - 1)."""
    return logits[~chosen].reshape(len(logits), logits.shape[1] - 1)

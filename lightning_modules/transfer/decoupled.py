"""Decoupled distillation: target and non-target classes apart."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from datamodules.inputs import InputColumns
from lightning_modules.divergences import log_soft, soft_divergence
from lightning_modules.transfer.distillation import Distillation
from lightning_modules.transfer.teachers import DistillationBatch, TeacherOption
from pollinate.errors import UsageError


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
    binary = [
        binary_log_probabilities(log_soft(logits, temperature), chosen)
        for logits in (student, teacher)
    ]
    others = [other_classes(logits, chosen) for logits in (student, teacher)]
    of_target = temperature**2 * soft_divergence(binary[0], binary[1], 1.0)
    of_others = soft_divergence(others[0], others[1], temperature)
    return target_weight * of_target + others_weight * of_others


def binary_log_probabilities(log_p: Tensor, chosen: Tensor) -> Tensor:
    """Return (log p_t, log(1 - p_t)): (N, C) -> (N, 2)."""
    inside = log_p.masked_fill(~chosen, -math.inf).logsumexp(dim=1)
    outside = log_p.masked_fill(chosen, -math.inf).logsumexp(dim=1)
    return torch.stack([inside, outside], dim=1)


def other_classes(logits: Tensor, chosen: Tensor) -> Tensor:
    """Return the logits of all classes but one: (N, C) -> (N, C - 1)."""
    return logits[~chosen].reshape(len(logits), logits.shape[1] - 1)


class Decoupled(Distillation):
    """L_teachers = mean of ``decoupled_divergence``; the target class is the label.

    Where a row has no label, it is the teachers' likeliest class, which the paper doesn't need.

    Args:
        target: weight of the target class against the rest, >= 0.
        others: weight of the other classes among each other, >= 0.
        teachers, map, inputs, alpha, temperature: as for ``Distillation``.

    Source: Zhao, Cui, Song, Qiu & Liang 2022, equation 7.

    Examples:
        >>> import pollinate as po
        >>> transfer = po.transfer.Decoupled({"mood": "runs/first"}, target=1.0, others=8.0)
        >>> model = po.MultiTaskModule(data, transfer=transfer, sources=po.SourceOpener())
        >>> trainer.fit(model, data)
        >>> trainer.callback_metrics["distil/mood"].item() > 0
        True
    """

    classes_only = True

    def __init__(
        self,
        teachers: TeacherOption,
        map: Mapping[str, str] | None = None,  # noqa: A002  # what it is
        inputs: Mapping[str, Mapping[str, InputColumns]] | None = None,
        alpha: float = 0.5,
        temperature: float = 4.0,
        target: float = 1.0,
        others: float = 8.0,
    ) -> None:
        super().__init__(teachers, map, inputs, alpha, temperature)
        if min(target, others) < 0 or not target + others > 0:
            raise UsageError(f"target and others must be >= 0, one > 0, got {target} and {others}")
        self.target = target
        self.others = others

    def distance(self, distil_batch: DistillationBatch) -> Tensor:
        likeliest = distil_batch.teacher.argmax(dim=1)
        target = torch.where(distil_batch.labelled, distil_batch.labels, likeliest)
        return distil_batch.mean(
            decoupled_divergence(
                distil_batch.student,
                distil_batch.teacher,
                target,
                self.temperature,
                self.target,
                self.others,
            )
        )

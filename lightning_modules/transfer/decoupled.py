"""The target class by itself, and the others among each other."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from datamodules.inputs import Given
from lightning_modules.transfer.distillation import Distillation
from lightning_modules.transfer.divergences.decoupled import decoupled_divergence
from lightning_modules.transfer.teachers.lesson import Lesson
from lightning_modules.transfer.teachers.named import Teachers
from pipeline.errors import UsageError


class Decoupled(Distillation):
    """L_teachers = mean of ``decoupled_divergence``; the target class is the label.

    Where a row has no label, it is the teachers' likeliest class, which the paper doesn't need.

    Args:
        target: weight of whether it is the target class, >= 0.
        others: weight of the other classes among each other, >= 0.
        teachers, map, inputs, alpha, temperature: as for ``Distillation``.

    Source: Zhao, Cui, Song, Qiu & Liang 2022, equation 7.
    """

    choices_only = True

    def __init__(
        self,
        teachers: Teachers,
        map: Mapping[str, str] | None = None,  # noqa: A002  # what it is
        inputs: Mapping[str, Mapping[str, Given]] | None = None,
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

    def distance(self, lesson: Lesson) -> Tensor:
        """Return the mean over the rows."""
        likeliest = lesson.teacher.argmax(dim=1)
        target = torch.where(lesson.labelled, lesson.labels, likeliest)
        return lesson.mean(
            decoupled_divergence(
                lesson.student,
                lesson.teacher,
                target,
                self.temperature,
                self.target,
                self.others,
            )
        )

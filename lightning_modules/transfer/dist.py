"""Answers that vary as the teachers' do."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from datamodules.inputs import Given
from lightning_modules.gather import gathered
from lightning_modules.transfer.distillation import Distillation
from lightning_modules.transfer.divergences.relations import between_classes, within_classes
from lightning_modules.transfer.divergences.soft import log_soft
from lightning_modules.transfer.teachers.lesson import Lesson
from lightning_modules.transfer.teachers.named import Teachers
from pipeline.errors import UsageError


class Dist(Distillation):
    """L_teachers = T^2 (b mean_i d(p_i, q_i) + g mean_c d(p^c, q^c)), d = 1 - correlation.

    p_i are the probabilities of a row, p^c those of a class over the step's rows of all processes;
    q are the teachers'. A student that is weaker can't have their probabilities, but may rank
    classes and rows as they do.

    Args:
        inter: b, >= 0.
        intra: g, >= 0.
        teachers, map, inputs, alpha, temperature: as for ``Distillation``.

    Source: Huang, You, Wang, Qian & Xu 2022, section 4; T^2 as in the authors' code.
    """

    choices_only = True

    def __init__(
        self,
        teachers: Teachers,
        map: Mapping[str, str] | None = None,  # noqa: A002  # what it is
        inputs: Mapping[str, Mapping[str, Given]] | None = None,
        alpha: float = 0.5,
        temperature: float = 4.0,
        inter: float = 2.0,
        intra: float = 2.0,
    ) -> None:
        super().__init__(teachers, map, inputs, alpha, temperature)
        if min(inter, intra) < 0 or not inter + intra > 0:
            raise UsageError(f"inter and intra must be >= 0, one > 0, got {inter} and {intra}")
        self.inter = inter
        self.intra = intra

    def distance(self, lesson: Lesson) -> Tensor:
        """Return the mean over the rows, and that over the classes."""
        student = log_soft(lesson.student, self.temperature).exp()
        teacher = log_soft(lesson.teacher, self.temperature).exp()
        by_row = lesson.mean(between_classes(student, teacher))
        by_class = within_classes(gathered(student)[0], gathered(teacher)[0]).mean()
        return self.temperature**2 * (self.inter * by_row + self.intra * by_class)

"""DIST: a student whose probabilities correlate with the teachers', by row and by class."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from torch.nn import functional

from datamodules.inputs import InputColumns
from lightning_modules.distributed import gather_rows
from lightning_modules.divergences import log_soft
from lightning_modules.transfer.distillation import Distillation
from lightning_modules.transfer.teachers import DistillationBatch, TeacherOption
from pollinate.errors import UsageError


def correlation_distance(first: Tensor, second: Tensor) -> Tensor:
    """Return 1 - Pearson's correlation along the last dimension: (..., n) twice -> (...).

    It is in [0, 2], and 1 where one of them doesn't vary.
    """
    centred = [values - values.mean(dim=-1, keepdim=True) for values in (first, second)]
    return 1 - functional.cosine_similarity(centred[0], centred[1], dim=-1)


def inter_class_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Return how far each row's probabilities are from being ranked alike: (N, C) twice -> (N,).

    Source: Huang, You, Wang, Qian & Xu 2022, section 4: the inter-class relation.
    """
    return correlation_distance(student, teacher)


def intra_class_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Return how far each class' probabilities are from ranking the rows alike: (N, C) -> (C,).

    Source: as above: the intra-class relation.
    """
    return correlation_distance(student.T, teacher.T)


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

    Examples:
        >>> import pollinate as po
        >>> transfer = po.transfer.Dist("runs/first", inter=1.0, intra=1.0)
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
        inter: float = 2.0,
        intra: float = 2.0,
    ) -> None:
        super().__init__(teachers, map, inputs, alpha, temperature)
        if min(inter, intra) < 0 or not inter + intra > 0:
            raise UsageError(f"inter and intra must be >= 0, one > 0, got {inter} and {intra}")
        self.inter = inter
        self.intra = intra

    def distance(self, distil_batch: DistillationBatch) -> Tensor:
        student = log_soft(distil_batch.student, self.temperature).exp()
        teacher = log_soft(distil_batch.teacher, self.temperature).exp()
        by_row = distil_batch.mean(inter_class_distance(student, teacher))
        by_class = intra_class_distance(gather_rows(student)[0], gather_rows(teacher)[0]).mean()
        return self.temperature**2 * (self.inter * by_row + self.intra * by_class)

"""Soft targets from teachers."""

from __future__ import annotations

from functools import partial

from torch import Tensor

from lightning_modules.divergences import soft_divergence
from lightning_modules.transfer.distillation import Distillation
from lightning_modules.transfer.teachers import DistillationBatch


class Hinton(Distillation):
    """L_teachers = mean of T^2 KL(softmax(z_teacher / T) || softmax(z / T)).

    Yes and no are two classes; numbers are compared by half their squared difference in standard
    deviations.

    Source: Hinton, Vinyals & Dean 2015, section 2.

    Examples:
        >>> import pollinate as po
        >>> transfer = po.transfer.Hinton("runs/first", alpha=0.9, temperature=4.0)
        >>> model = po.MultiTaskModule(data, transfer=transfer, sources=po.SourceOpener())
        >>> trainer.fit(model, data)
        >>> sorted(name for name in trainer.callback_metrics if name.startswith("distil"))
        ['distil/mood', 'distil/stars']
    """

    def distance(self, distil_batch: DistillationBatch) -> Tensor:
        divergence = partial(soft_divergence, temperature=self.temperature)
        return distil_batch.mean_divergence(divergence)

"""A teacher that looks at the rows of a step as they come, augmented say."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from datamodules.batch import Batch
from datamodules.modalities.base import Modality
from lightning_modules.transfer.preparing import differing
from lightning_modules.transfer.teacher import Teacher

if TYPE_CHECKING:
    from pipeline.prediction.predictor import Predictor


def can_look(
    predictor: Predictor,
    tasks: Sequence[str],
    modalities: Collection[str],
    here: Mapping[str, Modality],
) -> bool:
    """Say whether a teacher can take a run's rows as the run prepares them.

    Args:
        predictor: the teacher.
        tasks: of the teacher, those wanted.
        modalities: of the rows.
        here: {modality: how the run prepares raw values}.
    """
    same = all(
        not differing(here[m].options(), predictor.modalities[m].options()) for m in modalities
    )
    routes, inputs = predictor.network.routes, predictor.inputs
    known = [any(set(inputs[d]) == set(modalities) for d in routes[task]) for task in tasks]
    return same and all(known)


class LiveOutputs:
    """A teacher's outputs for a step's rows of one data set.

    Args:
        teacher: prepares rows as this run does.
        dataset: of this run.
        modalities: of the rows, those that the teacher reads.
        tasks: of the teacher.
    """

    def __init__(
        self, teacher: Teacher, dataset: str, modalities: Collection[str], tasks: Sequence[str]
    ) -> None:
        self.teacher = teacher
        self.dataset = dataset
        self.modalities = list(modalities)
        self.routes = dict.fromkeys(tasks, (dataset,))
        self._last: tuple[Batch, Mapping[str, Tensor]] | None = None  # several tasks ask for one

    def rows(self, task: str, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return a task's outputs (n, ...) for rows, and which have some, (n,) bool."""
        if self._last is None or self._last[0] is not batch:
            own = only(batch, self.modalities)
            self._last = batch, self.teacher.look({self.dataset: own}, self.routes).outputs
        every = torch.ones_like(batch.index, dtype=torch.bool)
        has = torch.stack([batch.has.get(m, every) for m in self.modalities]).any(dim=0)
        return self._last[1][task], has


def only(batch: Batch, modalities: Sequence[str]) -> Batch:
    """Return a batch with some of its modalities, and without labels."""
    has = {name: rows for name, rows in batch.has.items() if name in modalities}
    return Batch({m: batch.inputs[m] for m in modalities}, {}, {}, batch.index, has)

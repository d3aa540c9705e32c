"""What methods of distillation have in common: teachers, and their share in a task's loss."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from datamodules.batch import MixedBatch
from datamodules.inputs import Given
from lightning_modules.transfer.base import Opener, Transfer, TransferLosses, TransferStep
from lightning_modules.transfer.teachers.lesson import Lesson
from lightning_modules.transfer.teachers.named import Teachers, named_teachers
from lightning_modules.transfer.teachers.school import School
from pipeline.errors import UsageError

if TYPE_CHECKING:
    from datamodules.mixed import MixedDataModule
    from lightning_modules.multitask import MultiTaskModule


class Distillation(Transfer):
    """L_t = (1 - a) L_labels + a L_teachers for each task t that is taught.

    L_labels is the mean over the step's labelled rows, L_teachers that over all rows of the task's
    data sets which a teacher has an output for, labelled or not.

    Args:
        teachers: of all tasks, or {task: its own}: a source, ``task:NAME`` of this run, {source,
            task, weight}, or a list of these, whose probabilities are averaged.
        map: {task here: what teachers call it}.
        inputs: {data set: {modality: column}} that teachers read and the run does not.
        alpha: a, in [0, 1]; 1 leaves the labels out.
        temperature: by which logits are divided, > 0.
    """

    choices_only: bool = False  # whether it teaches only tasks that choose one of several classes

    def __init__(
        self,
        teachers: Teachers,
        map: Mapping[str, str] | None = None,  # noqa: A002  # what it is
        inputs: Mapping[str, Mapping[str, Given]] | None = None,
        alpha: float = 0.9,
        temperature: float = 4.0,
    ) -> None:
        super().__init__()
        if not 0 <= alpha <= 1:
            raise UsageError(f"alpha must be in [0, 1], got {alpha}")
        if not temperature > 0:
            raise UsageError(f"temperature must be > 0, got {temperature}")
        self.teachers = teachers
        self.names = dict(map or {})
        self.inputs = dict(inputs or {})
        self.alpha = alpha
        self.temperature = temperature
        self._school: School | None = None  # no module: it has no part in weights and checkpoints
        self._latest: dict[str, Tensor] = {}  # {task: L_teachers of the last step}

    @abstractmethod
    def distance(self, lesson: Lesson) -> Tensor:
        """Return how far the student is from the teachers, over all processes' rows: a scalar."""

    def setup(
        self, module: MultiTaskModule, datamodule: MixedDataModule, sources: Opener
    ) -> list[str]:
        """Open the teachers."""
        named = named_teachers(self.teachers, self.names, list(module.tasks))
        school = School(named, self.inputs, self.temperature, datamodule, sources)
        for task, own in school.courses.items():
            if self.choices_only and not own.comparison.exclusive:
                raise UsageError(
                    f"{type(self).__name__} teaches tasks that choose one of several classes, and "
                    f"{task} does not; use transfer=hinton for it, or beside this method with "
                    "transfer=several"
                )
        self._school = school
        return school.account

    def prepare(self, device: torch.device, say: Callable[[str], None]) -> None:
        """Compute the teachers' outputs once, where that can be."""
        self.school.prepare(device, say)

    @property
    def school(self) -> School:
        """The teachers."""
        assert self._school is not None
        return self._school

    def losses(self, step: TransferStep) -> TransferLosses:
        """Return the teachers' part of each task's loss, and the labels' share."""
        found = TransferLosses()
        self._latest = {}
        for task in self.wanted_here(step.batch):
            lesson = self.school.courses[task].lesson(step)
            found.labels[task] = 1 - self.alpha
            if lesson is not None:
                apart = self.distance(lesson)
                self._latest[task] = apart.detach()
                found.by_task[task] = self.alpha * apart
        return found

    def wanted(self, batch: MixedBatch) -> Sequence[str]:
        """Return the tasks that are taught on the batch, and those of this run that teach."""
        found = self.wanted_here(batch)
        return [*found, *(peer for task in found for peer in self.school.courses[task].peers)]

    def wanted_here(self, batch: MixedBatch) -> list[str]:
        """Return the tasks that are taught on the batch."""
        courses = self.school.courses
        return [t for t, own in courses.items() if any(map(batch.sizes.get, own.taught))]

    def gauges(self) -> dict[str, float]:
        """Return ``distil/<task>``: how far the student was in the last step, on this process."""
        return {f"distil/{task}": apart.item() for task, apart in self._latest.items()}

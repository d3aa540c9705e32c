"""What methods of distillation have in common: teachers, and their share in a task's loss."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from datamodules.batch import MixedBatch
from datamodules.inputs import InputColumns
from datamodules.mixed_datamodule import MixedDataModule
from lightning_modules.hooks import AddedLosses, HookedModule, TrainingStep
from lightning_modules.source_models import SourceProvider
from lightning_modules.transfer.answer_teachers import Keeping
from lightning_modules.transfer.base import Transfer
from lightning_modules.transfer.teachers import (
    DistillationBatch,
    TeacherOption,
    Teachers,
    parse_teachers,
)
from pollinate.errors import UsageError


class Distillation(Transfer):
    """L_t = (1 - a) L_labels + a L_teachers for each task t that is taught.

    L_labels is the mean over the step's labelled rows, L_teachers that over all rows of the task's
    data sets which a teacher has an output for, labelled or not.

    Args:
        teachers: of all tasks, or {task: its own}: a source, ``task:NAME`` of this run, {source,
            task, weight}, or a list of these, whose probabilities are averaged.
        map: {task here: the teachers' name for it}.
        inputs: {data set: {modality: column}} that teachers read and the run doesn't.
        alpha: a, in [0, 1]; 1 leaves the labels out.
        temperature: divides the logits, > 0.
        top_k: of answers in words, the most probable tokens of the teachers that are kept once, on
            disk; the rest of the probability is evenly spread over all others, so that it is exact
            where k is all tokens. None: the teachers run in every step, and nothing is left out.

    Examples:
        >>> import pollinate as po
        >>> transfer = po.transfer.Hinton({"mood": "task:stars"}, alpha=0.5)
        >>> isinstance(transfer, po.transfer.Distillation), transfer.temperature
        (True, 4.0)
        >>> po.transfer.Hinton("runs/first", alpha=1.5)
        Traceback (most recent call last):
        pollinate.errors.UsageError: alpha must be in [0, 1], got 1.5
    """

    classes_only: bool = False  # whether it teaches only tasks that choose one of several classes

    def __init__(
        self,
        teachers: TeacherOption,
        map: Mapping[str, str] | None = None,  # noqa: A002  # what it is
        inputs: Mapping[str, Mapping[str, InputColumns]] | None = None,
        alpha: float = 0.9,
        temperature: float = 4.0,
        top_k: int | None = None,
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
        self.keeping = Keeping(top_k)
        # no module: they have no part in weights and checkpoints
        self._opened_teachers: Teachers | None = None
        self._latest: dict[str, Tensor] = {}  # {task: L_teachers of the last step}

    @abstractmethod
    def distance(self, distil_batch: DistillationBatch) -> Tensor:
        """Return how far the student is from the teachers, over all processes' rows: a scalar."""

    def setup(
        self, module: HookedModule, datamodule: MixedDataModule, sources: SourceProvider
    ) -> list[str]:
        named = parse_teachers(self.teachers, self.names, list(module.tasks))
        opened_teachers = Teachers(
            named, self.inputs, self.temperature, datamodule, sources, self.keeping
        )
        for task, own in opened_teachers.by_task.items():
            if self.classes_only and not own.output_space.exclusive:
                raise UsageError(
                    f"{type(self).__name__} teaches tasks that choose one of several classes, and "
                    f"{task} does not; use transfer=hinton for it, or beside this method with "
                    "transfer=several"
                )
        self._opened_teachers = opened_teachers
        return opened_teachers.summary

    def prepare(self, device: torch.device, say: Callable[[str], None]) -> None:
        """Compute the teachers' outputs once, where that can be."""
        self.opened_teachers.prepare(device, say)

    @property
    def opened_teachers(self) -> Teachers:
        """The teachers."""
        assert self._opened_teachers is not None
        return self._opened_teachers

    def losses(self, step: TrainingStep) -> AddedLosses:
        """Return the teachers' part of each task's loss, and the labels' share."""
        found = AddedLosses()
        self._latest = {}
        for task in self.taught_tasks(step.batch):
            distil_batch = self.opened_teachers.by_task[task].distil_batch(step)
            found.label_weights[task] = 1 - self.alpha
            if distil_batch is not None:
                divergence = self.distance(distil_batch)
                self._latest[task] = divergence.detach()
                found.by_task[task] = self.alpha * divergence
        return found

    def required_tasks(self, batch: MixedBatch) -> Sequence[str]:
        """Return the tasks that are taught on the batch, and those of this run that teach."""
        found = self.taught_tasks(batch)
        return [
            *found,
            *(peer for task in found for peer in self.opened_teachers.by_task[task].peers),
        ]

    def taught_tasks(self, batch: MixedBatch) -> list[str]:
        """Return the tasks that are taught on the batch."""
        by_task = self.opened_teachers.by_task
        return [t for t, own in by_task.items() if any(map(batch.sizes.get, own.taught))]

    def gauges(self) -> dict[str, float]:
        """Return ``distil/<task>``: how far the student was in the last step, on this process."""
        return {f"distil/{task}": divergence.item() for task, divergence in self._latest.items()}

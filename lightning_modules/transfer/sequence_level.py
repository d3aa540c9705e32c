"""Sequence-level distillation: a teacher's answers in words stand in place of labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from datamodules.arrays import FileArrays
from datamodules.batch import Batch, MixedBatch
from datamodules.counter_rng import uniforms
from datamodules.inputs import InputColumns
from datamodules.mixed_datamodule import MixedDataModule
from datamodules.progress_bar import track
from datamodules.table import take
from lightning_modules.answers import FreeAnswers
from lightning_modules.hooks import HookedModule
from lightning_modules.network import MultiTaskNetwork
from lightning_modules.predictor import Predictor
from lightning_modules.source_models import SourceModel, SourceProvider
from lightning_modules.task_rows import concat_targets
from lightning_modules.tasks.base import Task, as_task, label_text
from lightning_modules.transfer.answer_teachers import array_digest
from lightning_modules.transfer.base import Transfer
from lightning_modules.transfer.gkd import counter
from lightning_modules.transfer.opened_teachers import OpenedTeachers, readable_datasets
from lightning_modules.transfer.teacher_outputs import (
    BATCH_SIZE,
    WINDOW,
    TeacherInput,
    require_inputs_are_read,
)
from lightning_modules.transfer.teachers import (
    KEY,
    TeacherOption,
    TeacherSpec,
    chooses,
    class_list,
    map_text,
    parse_teachers,
    require_task_of,
    task_type,
)
from pollinate.errors import PollinateError, UsageError
from pollinate.version import VERSION

CACHE_KIND, CACHE_FORMAT = "written answers", 1


@dataclass
class WrittenAnswers:
    """What a teacher writes in place of a task's labels, in one data set.

    source: the teacher, until it has written; there: its name for the task.
    name, dataset: whose labels, of ``data``.
    read: {modality: what the teacher reads}.
    beams: rows of tokens that it follows side by side; None: as it was trained.
    targets, has: once they are written, (N, A), and which rows have both, (N,) bool, of training.
    """

    source: SourceModel | None
    there: str
    name: str
    data: MixedDataModule
    dataset: str
    read: Mapping[str, TeacherInput]
    beams: int | None
    targets: Tensor | None = None
    has: Tensor | None = None

    def __deepcopy__(self, _: Mapping[int, Any]) -> Self:
        """Return itself: an average of the run's weights needs no answers of its own."""
        return self

    def prepare(self, alpha: float, device: torch.device, say: Callable[[str], None]) -> None:
        """Let the teacher write, if that isn't kept, and give rows its answers.

        Those without a label get it for good, and where alpha is 1 all rows.

        Raises:
            PollinateError: no answer can be used.
        """
        if self.source is None:
            return  # the rows have them
        part, task = self.data.parts["train"][self.dataset], as_task(self.data.tasks[self.name])
        texts = self._texts(self.source, part.rows, device, say)
        encoded = task.encode(texts)
        has, labelled = encoded.present, part.present[self.name]
        if not has.any():
            first = next((text for text in texts if text), None)
            raise PollinateError(
                f"{self.source.name} writes nothing that {self.name} can learn in {self.dataset}, "
                f"such as {first!r:.80}; choose another teacher"
            )
        if len(has) > int(has.sum()):
            say(
                f"note: {len(has) - int(has.sum()):,} of {len(has):,} answers of "
                f"{self.source.name} to {self.name} can't be used: they are empty"
                f"{', or none of the choices' if task.classes else ''}"
            )
        own = has if alpha == 1 else has & ~labelled
        part.targets[self.name] = chosen_targets(part.targets[self.name], encoded.targets, own)
        part.present[self.name] = labelled | has
        self.targets, self.has = encoded.targets, has & labelled
        self.source = None  # a model may be large

    def beside(self, batch: Batch, alpha: float, seed: int, steps_done: int) -> Tensor:
        """Return the targets of a step's rows, the teacher's with probability alpha: (n, A)."""
        assert self.targets is not None
        assert self.has is not None
        index = batch.index.cpu()
        places = [np.full(len(index), counter(one)[0]) for one in (self.name, self.dataset)]
        numbers = uniforms(seed, np.full(len(index), steps_done), index.numpy(), *places, count=1)
        chosen = self.has[index] & torch.from_numpy(numbers[:, 0] < alpha)
        labels = batch.targets[self.name]
        return chosen_targets(labels, self.targets[index].to(labels), chosen.to(labels.device))

    def _texts(
        self,
        source: SourceModel,
        rows: np.ndarray,
        device: torch.device,
        say: Callable[[str], None],
    ) -> list[str | None]:
        """Return what the teacher writes to rows of the table, None where it has no answer."""
        key = [CACHE_FORMAT, VERSION, torch.__version__, source.digest, self.there]
        key += [one.key for one in self.read.values()]
        predictor = source.predictor()
        asked = predictor.tasks[self.there]
        if asked.prompt is not None:
            self._use_beams(predictor)
            view = predictor.single_network.views[self.there]
            said = repr(view.decoding) if isinstance(view, FreeAnswers) else list(asked.classes)
            key += [said, predictor.prompt_modality(self.there).options()]

        def make(folder: Path) -> None:
            say(
                f"{source.name} writes answers to {len(rows):,} rows of {self.dataset} for "
                f"{self.name}, once"
            )
            predictor.network.to(device)
            FileArrays(folder).put("answers", self._write(source.name, predictor, rows))

        folder = self.data.policy.cache.get(CACHE_KIND, [*key, array_digest(rows)], make, say)
        found: list[str | None] = FileArrays(folder).value("answers")
        return found

    def _use_beams(self, predictor: Predictor) -> None:
        view = predictor.single_network.views[self.there]
        if self.beams is not None and isinstance(view, FreeAnswers):
            view.decoding = replace(view.decoding, beams=self.beams)

    def _write(self, who: str, predictor: Predictor, rows: np.ndarray) -> list[str | None]:
        found: list[str | None] = []
        starts = range(0, len(rows), WINDOW)
        what = f"answers of {who}"
        for start in track(starts, what) if len(starts) > 1 else starts:
            chosen = rows[start : start + WINDOW]
            columns = {name: list(take(one.cells, chosen)) for name, one in self.read.items()}
            said = predictor.predict(columns, [self.there], BATCH_SIZE).answers[self.there]
            found += [None if answer is None else label_text(answer["label"]) for answer in said]
        return found


def chosen_targets(labels: Tensor, others: Tensor, chosen: Tensor) -> Tensor:
    """Return the others' rows where they are chosen, else the labels: (N, A).

    Args:
        labels: (N, A_1); others: (N, A_2); both padded with -1.
        chosen: (N,) bool.
    """
    both = concat_targets([labels, others])
    return both[len(labels) :].where(chosen[:, None], both[: len(labels)])


class SequenceLevel(Transfer):
    """L_t = (1 - a) L(label) + a L(teacher's answer), in expectation.

    The teacher writes an answer to each training prompt, once, as it answers in prediction: in its
    own tokens, by beam search if ``beams`` says so. In each step a row that has both learns the
    teacher's with probability a, drawn from seed, step and row alone; a row without a label always
    learns the teacher's. A step costs what it did.

    The teacher may have any tokenizer, may be a language model that no run has trained, which is
    asked as the task asks, or a classification whose classes are among the task's answers.

    Args:
        teachers: one of all tasks, or {task: its own}; each {source, task} or a source.
        map: {task here: the teacher's name for it}.
        inputs: {data set: {modality: column}} that the teacher reads and the run doesn't.
        alpha: a, in [0, 1].
        beams: >= 1; None: as the teacher was trained.

    Source: Kim & Rush 2016, "Sequence-level knowledge distillation", section 3.2.

    Examples:
        >>> import pollinate as po
        >>> po.transfer.SequenceLevel({"reply": "runs/large"}, alpha=0.5, beams=4).beams
        4
        >>> po.transfer.SequenceLevel("runs/large", alpha=1.5)
        Traceback (most recent call last):
        pollinate.errors.UsageError: alpha must be in [0, 1], got 1.5
    """

    def __init__(
        self,
        teachers: TeacherOption,
        map: Mapping[str, str] | None = None,  # noqa: A002  # what it is
        inputs: Mapping[str, Mapping[str, InputColumns]] | None = None,
        alpha: float = 1.0,
        beams: int | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= alpha <= 1:
            raise UsageError(f"alpha must be in [0, 1], got {alpha}")
        if beams is not None and beams < 1:
            raise UsageError(f"beams must be >= 1, or null, got {beams}")
        self.teachers = teachers
        self.names = dict(map or {})
        self.inputs = dict(inputs or {})
        self.alpha = alpha
        self.beams = beams
        self.seed = 0  # of the run
        self.written: list[WrittenAnswers] = []

    def setup(
        self, module: HookedModule, datamodule: MixedDataModule, sources: SourceProvider
    ) -> list[str]:
        opened, said = OpenedTeachers(sources), []
        named = parse_teachers(self.teachers, self.names, list(module.tasks))
        self.seed, self.written = datamodule.seed, []
        for name, own in named.items():
            task = as_task(datamodule.tasks[name])
            teacher = require_one_teacher(name, task, own)
            source, predictor = opened.open(teacher.source, teacher.task, task)
            require_writes(name, task, teacher, predictor.tasks)
            found = dict(
                readable_datasets(
                    datamodule, task.datasets, self.inputs, teacher.source, teacher.task, predictor
                )
            )
            self.written += [
                WrittenAnswers(source, teacher.task, name, datamodule, dataset, read, self.beams)
                for dataset, read in found.items()
            ]
            said.append(f"{name}: learns what {teacher.source} writes on {', '.join(found)}")
        readable: dict[str, set[str]] = {}
        for one in self.written:
            readable.setdefault(one.dataset, set()).update(one.read)
            require_in_memory(one)
        require_inputs_are_read(self.inputs, datamodule, readable)
        return said

    def prepare(self, device: torch.device, say: Callable[[str], None]) -> None:
        for one in self.written:
            one.prepare(self.alpha, device, say)

    def change_batch(
        self, batch: MixedBatch, network: MultiTaskNetwork, steps_done: int
    ) -> MixedBatch:
        """Return the batch with the teacher's answers in place of some labels."""
        if self.alpha in (0, 1):
            return batch  # prepare has given the rows what they learn
        batches = dict(batch.batches)
        for one in self.written:
            if one.dataset in batches:
                own = batches[one.dataset]
                targets = one.beside(own, self.alpha, self.seed, steps_done)
                batches[one.dataset] = replace(own, targets={**own.targets, one.name: targets})
        return replace(batch, batches=batches)


def require_one_teacher(name: str, task: Task, given: Sequence[TeacherSpec]) -> TeacherSpec:
    """Return the teacher of a task that answers in words.

    Raises:
        UsageError: the task has a head, there are several teachers, or it is a task of this run.
    """
    if task.prompt is None:
        raise UsageError(
            f"sequence_level teaches tasks that answer in words, {name} is {task_type(task)}; name "
            f"the tasks to be taught: {KEY}={{TASK: RUN}}, and use transfer=hinton for others"
        )
    if len(given) > 1 or given[0].peer:
        raise UsageError(
            f"{KEY}.{name} must be one other model, whose answers are learnt, got "
            f"{', '.join(one.source for one in given)}"
        )
    return given[0]


def require_writes(name: str, here: Task, teacher: TeacherSpec, there: Mapping[str, Task]) -> None:
    """Check that a teacher's task has answers that the task here can learn.

    Raises:
        UsageError: it has no such task, or its answers are no texts.
        PollinateError: it chooses among other answers.
    """
    other = require_task_of(teacher, name, there)
    if other.prompt is None and not chooses(other):
        raise UsageError(
            f"the task {teacher.task} of {teacher.source} is {task_type(other)}, whose answers are "
            f"no words that {name} could learn; choose another with {map_text(name)}"
        )
    strange = [label for label in other.classes if here.classes and label not in here.classes]
    if strange:
        raise PollinateError(
            f"the task {teacher.task} of {teacher.source} answers {class_list(strange)}, which "
            f"aren't among the choices of {name} here: {class_list(here.classes)}; give both the "
            "same"
        )


def require_in_memory(written: WrittenAnswers) -> None:
    """Check that a teacher can answer all rows before training."""
    if written.data.loaded[written.dataset].table.streamed:
        raise UsageError(
            f"the rows of {written.dataset} are streamed, so their answers can't be written before "
            f"training; leave streaming out: data.datasets.{written.dataset}.streaming=false"
        )

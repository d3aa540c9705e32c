"""The teachers of each task: how a user names them, whether they fit, what they teach in a step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed

from datamodules.mixed_datamodule import MixedDataModule
from lightning_modules.distributed import is_distributed
from lightning_modules.hooks import TrainingStep
from lightning_modules.output_spaces import Divergence, OutputSpace
from lightning_modules.source_models import SourceProvider
from lightning_modules.task_rows import concat_targets
from lightning_modules.tasks.base import Task, as_task
from lightning_modules.transfer.answer_teachers import (
    KEEP_NOTHING,
    AnswerOutputs,
    AnswerTeacher,
    Keeping,
    require_same_tokens,
    token_count,
)
from lightning_modules.transfer.base import peer_task
from lightning_modules.transfer.opened_teachers import OpenedTeachers, readable_datasets
from lightning_modules.transfer.teacher_outputs import (
    DatasetTeacher,
    ModelOutputs,
    PeerOutputs,
    TeacherColumns,
    TeacherModel,
    TeacherOutputs,
    require_inputs_are_read,
    rows_by_dataset,
)
from pollinate.errors import PollinateError, UsageError
from pollinate.overrides import option_text
from pollinate.suggest import hint

# a source; {source, task, weight}; a list of either; or {task: any of these}
TeacherOption = str | Sequence[Any] | Mapping[str, Any]

KEY = "transfer.teachers"
SOURCE, TASK, WEIGHT = "source", "task", "weight"


@dataclass(frozen=True)
class TeacherSpec:
    """source: a model, or ``task:NAME`` of this run; task: of the source; weight: > 0."""

    source: str
    task: str
    weight: float = 1.0

    @property
    def peer(self) -> str | None:
        """The task of this run that teaches, None if it is another model."""
        return peer_task(self.source)


def parse_teachers(
    given: TeacherOption, names: Mapping[str, str], tasks: Sequence[str]
) -> dict[str, list[TeacherSpec]]:
    """Return {task: its teachers}, of the tasks that have some.

    Args:
        given: of all tasks alike, or {task: its own}.
        names: {task here: the teachers' name for it}.
        tasks: of this run.

    Raises:
        UsageError: no source is named, or a task, key or weight is none.
    """
    for name in names:
        require_known_task("transfer.map", name, tasks)
    if isinstance(given, Mapping) and SOURCE not in given:
        for name in given:
            require_known_task(KEY, name, tasks)
        by_task = dict(given)
    else:
        by_task = dict.fromkeys(tasks, given)
    found = {
        task: [parse_teacher(task, entry, names.get(task, task)) for entry in as_list(entries)]
        for task, entries in by_task.items()
    }
    empty = [task for task, own in found.items() if not own]
    if not found or empty:
        of = f" for {', '.join(empty)}" if empty else ""
        raise UsageError(
            f"{KEY} must name sources{of}, got none: {KEY}=RUN, or {KEY}={{{tasks[0]}: RUN}}"
        )
    return found


def as_list(entries: Any) -> list[Any]:
    """Return one teacher or several as a list."""
    return list(entries) if isinstance(entries, list | tuple) else [entries]


def parse_teacher(task: str, entry: Any, there: str) -> TeacherSpec:
    """Return a teacher from what stands for it."""
    node = entry if isinstance(entry, Mapping) else {SOURCE: entry}
    unknown = [key for key in node if key not in (SOURCE, TASK, WEIGHT)]
    source, weight = node.get(SOURCE), node.get(WEIGHT, 1.0)
    if unknown or not isinstance(source, str) or not source:
        raise UsageError(
            f"{KEY}.{task} must be a source, {{source: RUN, task: NAME, weight: 1}} or a list of "
            f"these, got {entry}"
        )
    if not (isinstance(weight, int | float) and weight > 0):
        raise UsageError(f"{KEY}.{task}: weight must be > 0, got {weight}")
    return TeacherSpec(source, str(node.get(TASK, there)), float(weight))


def require_known_task(key: str, name: str, tasks: Sequence[str]) -> None:
    """Check that the run has a task."""
    if name not in tasks:
        raise UsageError(f"{key} names the task {name!r}{hint(name, tasks, 'tasks')}")


MAX_SHOWN = 10  # classes that a message lists


def require_output_space(name: str, task: Task) -> OutputSpace:
    """Return how a task's outputs are compared with a teacher's."""
    found = task.output_space()
    if found is None:
        raise UsageError(
            f"{KEY} teaches tasks that choose among classes or answer a number, {name} is "
            f"{task_type(task)}; name the tasks to be taught: {KEY}={{TASK: RUN}}"
        )
    return found


def class_positions(
    name: str, here: Task, teacher: TeacherSpec, there: Mapping[str, Task]
) -> list[int] | None:
    """Return where the classes of a task here are among a teacher's, None: in the same places.

    Args:
        name: of the task here.
        here: the task.
        teacher: as it was named.
        there: {task: it} of the teacher.

    Raises:
        UsageError: the teacher has no such task, or one of another type.
        PollinateError: the classes differ.
    """
    other = require_task_of(teacher, name, there)
    if type(other) is not type(here) and not (chooses(other) and here_chooses(here)):
        raise UsageError(
            f"the task {teacher.task} of {teacher.source} is {task_type(other)}, and {name} here "
            f"is {task_type(here)}; choose another with {map_text(name)}{other_way(other, here)}"
        )
    if here.prompt is not None:
        return None  # compared by tokens
    require_same_classes(f"{teacher.task} of {teacher.source}", other.classes, name, here)
    if list(other.classes) == list(here.classes):
        return None
    places = {label: place for place, label in enumerate(other.classes)}
    return [places[label] for label in here.classes]


def require_task_of(teacher: TeacherSpec, name: str, there: Mapping[str, Task]) -> Task:
    """Return the task of a teacher that is to teach ``name``; ``there`` are all that it has.

    Raises:
        UsageError: the teacher has no such task.
    """
    if teacher.task not in there:
        known = hint(teacher.task, there, "its tasks")
        raise UsageError(
            f"{teacher.source} has no task {teacher.task!r} to teach {name}{known}; say which one "
            f"does, {map_text(name)}, or leave {name} out: {KEY}={{TASK: RUN}}"
        )
    return there[teacher.task]


def chooses(task: Task) -> bool:
    """Say whether a task's answers are logits of classes of which one is right."""
    found = task.answer_space()
    return found is not None and found.exclusive


def here_chooses(task: Task) -> bool:
    """Say whether a task is trained on logits of classes of which one is right."""
    found = task.output_space()
    return found is not None and found.exclusive


def other_way(other: Task, here: Task) -> str:
    """Return what else helps where two tasks' outputs can't be compared, after a semicolon."""
    if other.prompt is not None and here_chooses(here):
        return "; or let the teacher answer with the same classes: choices=[...]"
    if here.prompt is not None and chooses(other):
        return "; or let its answers stand in place of labels: transfer=sequence_level"
    return ""


def require_same_classes(what: str, theirs: Sequence[str], name: str, here: Task) -> None:
    """Check that teacher and student know the same classes."""
    missing = [label for label in here.classes if label not in theirs]
    extra = [label for label in theirs if label not in here.classes]
    if missing or extra:
        parts = [f"lacks {class_list(missing)}"] if missing else []
        parts += [f"also has {class_list(extra)}"] if extra else []
        raise PollinateError(
            f"the task {what} must have the classes of {name} here to teach it: it "
            f"{' and '.join(parts)}; train a teacher on the same classes, or name a task that has "
            f"them: {map_text(name)}"
        )
    output_space = here.output_space()
    if output_space is not None and output_space.ordered and list(theirs) != list(here.classes):
        raise PollinateError(
            f"the task {what} must have its classes in the order of {name} here, got "
            f"{class_list(theirs)} and {class_list(here.classes)}; give both the same order: [...]"
        )


def class_list(labels: Sequence[str]) -> str:
    """Return some labels for people."""
    return f"{', '.join(labels[:MAX_SHOWN])}{' ...' if len(labels) > MAX_SHOWN else ''}"


def task_type(task: Task) -> str:
    """Return a task's type as a user writes it."""
    return type(task).__name__.lower()


@dataclass(frozen=True)
class DistillationBatch:
    """The rows of a task that a teacher has an output for.

    step: where they come from.
    output_space: how outputs are compared.
    student, teacher: (n, ...) outputs, of this process.
    labels: (n, ...) targets, placeholders where there is none; labelled: (n,) bool. Of answers in
        words they are those that went through the network.
    rows: of all processes, >= 1.
    """

    step: TrainingStep
    output_space: OutputSpace
    student: Tensor
    teacher: Tensor
    labels: Tensor
    labelled: Tensor
    rows: int

    def mean(self, losses: Tensor) -> Tensor:
        """Return the mean of losses (n,) over all processes' rows; see ``TrainingStep.mean``."""
        return self.step.mean(losses, self.rows)

    def mean_divergence(self, divergence: Divergence) -> Tensor:
        """Return the mean of a divergence of logits over all processes' rows."""
        space = self.output_space
        return self.mean(space.divergence(self.student, self.teacher, self.labels, divergence))


class TaskTeachers:
    """The teachers of one task.

    Args:
        task: its name.
        output_space: how its outputs are compared.
        route: its data sets, in order.
        outputs_by_teacher: of each teacher {data set: its outputs there}.
        weights: of the teachers, > 0.
        temperature: at which probabilities are averaged, > 0.

    Attributes:
        taught: the data sets whose rows they teach on.
        peers: tasks of this run that are among the teachers.
    """

    def __init__(
        self,
        task: str,
        output_space: OutputSpace,
        route: Sequence[str],
        outputs_by_teacher: Sequence[Mapping[str, TeacherOutputs]],
        weights: Sequence[float],
        temperature: float,
    ) -> None:
        self.task = task
        self.output_space = output_space
        self.route = tuple(route)
        self.outputs_by_teacher = [dict(own) for own in outputs_by_teacher]
        self.weights = torch.tensor(list(weights))
        self.temperature = temperature
        self.taught = [name for name in route if any(name in own for own in outputs_by_teacher)]
        said = [
            teacher_output for own in self.outputs_by_teacher for teacher_output in own.values()
        ]
        self.peers = sorted({peer for teacher_output in said for peer in teacher_output.needs})
        self._outputs = said

    def distil_batch(self, step: TrainingStep) -> DistillationBatch | None:
        """Return what a step teaches, None if no process has a row for it."""
        outputs, has = self._outputs_and_masks(step)
        chosen = has.any(dim=0)
        rows = self._row_count(step, chosen)
        if not rows:
            return None
        teacher = self._mean_output(outputs[:, chosen], has[:, chosen])
        batches = [step.batch.batches[name] for name in self.route if name in step.batch.batches]
        shown = [batch.shown(self.task) for batch in batches]
        labels = concat_targets([targets for targets, _ in shown])
        labelled = torch.cat([there for _, there in shown])
        student = self.output_space.comparable(step.outputs[self.task])[chosen]
        return DistillationBatch(
            step, self.output_space, student, teacher, labels[chosen], labelled[chosen], rows
        )

    def _outputs_and_masks(self, step: TrainingStep) -> tuple[Tensor, Tensor]:
        """Return what the teachers say, (K, N, ...), and of which rows, (K, N) bool."""
        student = self.output_space.comparable(step.outputs[self.task].detach())
        precise = torch.promote_types(student.dtype, torch.float32)
        outputs = student.new_zeros((len(self.outputs_by_teacher), *student.shape), dtype=precise)
        has = torch.zeros(outputs.shape[:2], dtype=torch.bool, device=student.device)
        for dataset, rows in rows_by_dataset(step.batch, self.route).items():
            for number, own in enumerate(self.outputs_by_teacher):
                if dataset in own:
                    found, which = own[dataset].outputs(step)
                    outputs[number, rows], has[number, rows] = found.to(outputs), which.to(has)
        return outputs, has

    def _mean_output(self, outputs: Tensor, has: Tensor) -> Tensor:
        """Return what stands for the teachers' weighted mean, of those that say something."""
        if len(outputs) == 1:
            return outputs[0]
        weights = self.weights.to(outputs)[:, None] * has
        return self.output_space.mean(outputs, weights / weights.sum(dim=0), self.temperature)

    def _row_count(self, step: TrainingStep, chosen: Tensor) -> int:
        """Return how many rows all processes have for the batch; all know the same.

        A process that steps on its own takes the others to have as many.
        """
        if all(teacher_output.complete() for teacher_output in self._outputs):
            return sum(step.batch.sizes.get(name, 0) for name in self.taught)
        count = chosen.sum()
        if is_distributed():
            distributed.all_reduce(count)
            return int(count)
        return int(count) * step.world_size  # others, if there are any, aren't asked


class Teachers:
    """Opens the teachers that are named, and checks that they can teach.

    Args:
        named: {task: its teachers}.
        inputs: {data set: {modality: column}} that teachers read and the run doesn't.
        temperature: at which several teachers' probabilities are averaged, > 0.
        data: this run's, set up.
        sources: opens models.
        keeping: what of answers in words is kept.

    Attributes:
        by_task: {task: its teachers}.
        summary: lines for the user: who teaches what.

    Raises:
        PollinateError: a teacher can't be had, or doesn't fit.
    """

    def __init__(
        self,
        named: Mapping[str, Sequence[TeacherSpec]],
        inputs: TeacherColumns,
        temperature: float,
        data: MixedDataModule,
        sources: SourceProvider,
        keeping: Keeping = KEEP_NOTHING,
    ) -> None:
        self.data = data
        self.keeping = keeping
        self.inputs = inputs
        self.sources = sources
        self.summary: list[str] = []
        self.models: dict[tuple[str, ...], TeacherModel] = {}
        self._opened = OpenedTeachers(sources)
        self.by_task = {
            name: self._task_teachers(name, own, temperature) for name, own in named.items()
        }
        readable: dict[str, set[str]] = {}
        for model in self.models.values():
            readable.setdefault(model.dataset, set()).update(model.read)
            model.require_possible(data)
        require_inputs_are_read(inputs, data, readable)
        self._opened.forget()  # a model may be large

    def __deepcopy__(self, memo: Mapping[int, Any]) -> Teachers:
        """Return itself: an average of the run's weights needs no teachers of its own."""
        return self

    def prepare(self, device: torch.device, say: Callable[[str], None]) -> None:
        """Compute what can be computed once."""
        for model in self.models.values():
            model.prepare(self.data, device, say)

    def _task_teachers(
        self, name: str, teachers: Sequence[TeacherSpec], temperature: float
    ) -> TaskTeachers:
        spec = self.data.tasks[name]
        output_space = require_output_space(name, as_task(spec))
        outputs_by_teacher = [dict(self._outputs(name, teacher)) for teacher in teachers]
        for teacher, own in zip(teachers, outputs_by_teacher, strict=True):
            of = "" if teacher.peer or teacher.task == name else f" ({teacher.task})"
            self.summary.append(f"{name}: taught by {teacher.source}{of} on {', '.join(own)}")
        weights = [teacher.weight for teacher in teachers]
        return TaskTeachers(
            name, output_space, spec.datasets, outputs_by_teacher, weights, temperature
        )

    def _outputs(self, name: str, teacher: TeacherSpec) -> Iterator[tuple[str, TeacherOutputs]]:
        peer = teacher.peer
        return self._models(name, teacher) if peer is None else self._peers(name, teacher, peer)

    def _peers(
        self, name: str, teacher: TeacherSpec, peer: str
    ) -> Iterator[tuple[str, TeacherOutputs]]:
        """Yield (data set, what another task of the run says)."""
        tasks = self.data.tasks
        require_known_task(f"transfer.teachers.{name}", peer, list(tasks))
        if peer == name:
            raise UsageError(f"transfer.teachers.{name}: a task can't teach itself; name another")
        known = {task: as_task(spec) for task, spec in tasks.items()}
        places = class_positions(name, known[name], TeacherSpec(teacher.source, peer), known)
        if known[name].prompt is not None or known[peer].prompt is not None:
            raise UsageError(
                f"transfer.teachers.{name}: a task of the run that answers in words neither "
                f"teaches another nor learns from one, got {peer}; name another model"
            )
        both = [d for d in tasks[name].datasets if d in tasks[peer].datasets]
        if not both:
            raise UsageError(
                f"transfer.teachers.{name}: {peer} must have a data set of {name}, got "
                f"{', '.join(tasks[peer].datasets)} and {', '.join(tasks[name].datasets)}; add one "
                f"that both read: data.tasks.{peer}.unlabelled=[{tasks[name].datasets[0]}]"
            )
        yield from ((d, PeerOutputs(peer, d, tasks[peer].datasets, places)) for d in both)

    def _models(self, name: str, teacher: TeacherSpec) -> Iterator[tuple[str, TeacherOutputs]]:
        """Yield (data set, what a model says of its rows), for those that it can read."""
        spec = self.data.tasks[name]
        task = as_task(spec)
        source, predictor = self._opened.open(teacher.source, teacher.task, task)
        places = class_positions(name, task, teacher, predictor.tasks)
        if task.prompt is not None:
            here = self.data.prompts[name]
            require_same_tokens(name, here, teacher.source, predictor.prompt_modality(teacher.task))
        for dataset, read in readable_datasets(
            self.data, spec.datasets, self.inputs, teacher.source, teacher.task, predictor
        ):
            if task.prompt is not None:
                tokens, own = token_count(here), (teacher.source, dataset, name)
                answers = self.models[own] = AnswerTeacher(
                    source, dataset, read, name, teacher.task, tokens, self.keeping
                )
                yield dataset, AnswerOutputs(answers)
                continue
            model = self.models.setdefault(
                (teacher.source, dataset), DatasetTeacher(source, dataset, read)
            )
            assert isinstance(model, DatasetTeacher)
            model.read |= read
            yield dataset, ModelOutputs(model, teacher.task, places)


def map_text(name: str) -> str:
    """Return the option that names the teacher's task for one of this run's."""
    return option_text("transfer.map", {name: "NAME"})

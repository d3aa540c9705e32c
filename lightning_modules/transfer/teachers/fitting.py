"""Whether a teacher's task can teach one of this run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lightning_modules.comparisons.base import Comparison
from lightning_modules.tasks.base import Task
from lightning_modules.transfer.teachers.named import KEY, Named
from pipeline.configuration.suggest import hint
from pipeline.errors import PollinateError, UsageError

SHOWN = 10  # classes that a message lists


def comparison_of(name: str, task: Task) -> Comparison:
    """Return how a task's outputs are compared with a teacher's.

    Raises:
        UsageError: they can't be.
    """
    found = task.comparison()
    if found is None:
        raise UsageError(
            f"{KEY} teaches tasks that choose among classes or answer a number, {name} is "
            f"{kind(task)}; name the tasks to be taught: {KEY}={{TASK: RUN}}"
        )
    return found


def places_of(name: str, here: Task, teacher: Named, there: Mapping[str, Task]) -> list[int] | None:
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
    if teacher.task not in there:
        known = hint(teacher.task, there, "its tasks")
        raise UsageError(
            f"{teacher.source} has no task {teacher.task!r} to teach {name}{known}; say which one "
            f"does, transfer.map={{{name}: NAME}}, or leave {name} out: {KEY}={{TASK: RUN}}"
        )
    other = there[teacher.task]
    if type(other) is not type(here):
        raise UsageError(
            f"the task {teacher.task} of {teacher.source} is {kind(other)}, and {name} here is "
            f"{kind(here)}; choose another with transfer.map={{{name}: NAME}}"
        )
    require_classes(f"{teacher.task} of {teacher.source}", other.classes, name, here)
    if list(other.classes) == list(here.classes):
        return None
    places = {label: place for place, label in enumerate(other.classes)}
    return [places[label] for label in here.classes]


def require_classes(what: str, theirs: Sequence[str], name: str, here: Task) -> None:
    """Check that teacher and student know the same classes.

    Raises:
        PollinateError: they don't.
    """
    missing = [label for label in here.classes if label not in theirs]
    extra = [label for label in theirs if label not in here.classes]
    if missing or extra:
        parts = [f"lacks {shown(missing)}"] if missing else []
        parts += [f"also has {shown(extra)}"] if extra else []
        raise PollinateError(
            f"the task {what} must have the classes of {name} here to teach it: it "
            f"{' and '.join(parts)}; train a teacher on the same classes, or name a task that has "
            f"them: transfer.map={{{name}: NAME}}"
        )
    comparison = here.comparison()
    if comparison is not None and comparison.ordered and list(theirs) != list(here.classes):
        raise PollinateError(
            f"the task {what} must have its classes in the order of {name} here, got "
            f"{shown(theirs)} and {shown(here.classes)}; give both the same order: [...]"
        )


def shown(labels: Sequence[str]) -> str:
    """Return some labels for people."""
    return f"{', '.join(labels[:SHOWN])}{' ...' if len(labels) > SHOWN else ''}"


def kind(task: Task) -> str:
    """Return a task's type as a user writes it."""
    return type(task).__name__.lower()

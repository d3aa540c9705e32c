"""The teachers of each task, as a user names them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.configuration.suggest import hint
from pipeline.errors import UsageError

# a source; {source, task, weight}; a list of either; or {task: any of these}
Teachers = str | Sequence[Any] | Mapping[str, Any]

KEY = "transfer.teachers"
PEER = "task:"  # before the name of another task of the run
SOURCE, TASK, WEIGHT = "source", "task", "weight"


@dataclass(frozen=True)
class Named:
    """source: a model, or ``task:NAME`` of this run; task: of the source; weight: > 0."""

    source: str
    task: str
    weight: float = 1.0

    @property
    def peer(self) -> str | None:
        """The task of this run that teaches, None if it is another model."""
        return self.source.removeprefix(PEER) if self.source.startswith(PEER) else None


def named_teachers(
    given: Teachers, names: Mapping[str, str], tasks: Sequence[str]
) -> dict[str, list[Named]]:
    """Return {task: its teachers}, of the tasks that have some.

    Args:
        given: of all tasks alike, or {task: its own}.
        names: {task here: what teachers call it}.
        tasks: of this run.

    Raises:
        UsageError: no source is named, or a task, key or weight is none.
    """
    for name in names:
        require_task("transfer.map", name, tasks)
    if isinstance(given, Mapping) and SOURCE not in given:
        for name in given:
            require_task(KEY, name, tasks)
        by_task = dict(given)
    else:
        by_task = dict.fromkeys(tasks, given)
    found = {
        task: [one_teacher(task, entry, names.get(task, task)) for entry in listed(entries)]
        for task, entries in by_task.items()
    }
    empty = [task for task, own in found.items() if not own]
    if not found or empty:
        of = f" for {', '.join(empty)}" if empty else ""
        raise UsageError(
            f"{KEY} must name sources{of}, got none: {KEY}=RUN, or {KEY}={{{tasks[0]}: RUN}}"
        )
    return found


def listed(entries: Any) -> list[Any]:
    """Return one teacher or several as a list."""
    return list(entries) if isinstance(entries, list | tuple) else [entries]


def one_teacher(task: str, entry: Any, there: str) -> Named:
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
    return Named(source, str(node.get(TASK, there)), float(weight))


def require_task(key: str, name: str, tasks: Sequence[str]) -> None:
    """Check that the run has a task.

    Raises:
        UsageError: it hasn't.
    """
    if name not in tasks:
        raise UsageError(f"{key} names the task {name!r}{hint(name, tasks, 'tasks')}")

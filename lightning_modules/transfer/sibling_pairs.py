"""What heads of tasks of the same run read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lightning_modules.transfer.base import TransferStep
from lightning_modules.transfer.head_pairs import pair_of, require_own
from lightning_modules.transfer.pairs import Pair, Pairs
from pipeline.errors import UsageError

if TYPE_CHECKING:
    from lightning_modules.multitask import MultiTaskModule

PREFIX = "task:"  # task:NAME is a task of the same run


class SiblingPairs(Pairs):
    """{task: what its head reads, and, detached, what another task's reads of the same rows}.

    Args:
        source: the other task.
        tasks: that learn from it; None: all others that read the same data sets.
        module: of this run.

    Raises:
        UsageError: there is no such task, tasks read other rows, or the trunk gives all the same.
    """

    of_tasks = True

    def __init__(self, source: str, tasks: Sequence[str] | None, module: MultiTaskModule) -> None:
        self.source, self.routes = source, module.network.routes
        for task in [source, *(tasks or ())]:
            require_own(task, list(self.routes))
        if module.network.trunk.same_for_all:
            raise UsageError(
                f"all tasks read the same features of {type(module.network.trunk).__name__}, so "
                f"none has anything to learn from {source}; choose trunk=mmoe, say"
            )
        same = [t for t, route in self.routes.items() if set(route) == set(self.routes[source])]
        self.tasks = list(same if tasks is None else tasks)
        self.tasks = [task for task in self.tasks if task != source]
        wrong = next((task for task in self.tasks if task not in same), None)
        if wrong is not None or not self.tasks:
            who = f"task {wrong}" if wrong else "another task"
            raise UsageError(
                f"{who} must read the same data sets as {source}, which reads "
                f"{', '.join(self.routes[source])}, to learn from what it makes of their rows"
            )

    def find(self, step: TransferStep) -> dict[str, Pair]:
        """Compare each task with the source."""
        read = step.trace.representations
        if self.source not in read:
            return {}
        other = read[self.source].detach()
        found = {}
        for task in (task for task in self.tasks if task in read):
            if len(read[task]) != len(other):
                raise UsageError(
                    f"tasks {task} and {self.source} must see the same things of a row, got "
                    f"{len(read[task])} and {len(other)} words, cells or rows; choose tasks of one "
                    "type"
                )
            found[task] = pair_of(task, self.routes[task], step, read[task], other)
        return found

    def whose(self, name: str) -> str:
        """Return the other task."""
        return self.source

    def wanted(self, sizes: Mapping[str, int]) -> list[str]:
        """Return all, if their data sets have rows."""
        there = any(sizes.get(name) for name in self.routes[self.source])
        return [self.source, *self.tasks] if there else []

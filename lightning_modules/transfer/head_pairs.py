"""What heads read, of this run and of a teacher."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor

from lightning_modules.transfer.base import TransferStep
from lightning_modules.transfer.pairs import Pair, Pairs
from lightning_modules.transfer.teacher import Teacher
from pipeline.configuration.suggest import hint
from pipeline.errors import UsageError

if TYPE_CHECKING:
    from datamodules.mixed import MixedDataModule
    from lightning_modules.multitask import MultiTaskModule


class HeadPairs(Pairs):
    """{task: what its head reads here, and what a teacher's head reads of the same rows}.

    Rows without a label of the task take part.

    Args:
        teacher: whose heads.
        tasks: {task here: task there}; None: all of the same name.
        module, datamodule: of this run.

    Raises:
        UsageError: there is no such task, or the teacher reads other rows.
    """

    of_tasks = True

    def __init__(
        self,
        teacher: Teacher,
        tasks: Mapping[str, str] | None,
        module: MultiTaskModule,
        datamodule: MixedDataModule,
    ) -> None:
        self.teacher = teacher
        self.routes = module.network.routes
        both = {name: name for name in self.routes if name in teacher.network.heads}
        self.tasks = dict(both if tasks is None else tasks)
        require_some(self.tasks, list(self.routes), teacher)
        for own, other in self.tasks.items():
            require_own(own, list(self.routes))
            teacher.require_task(other, self.routes[own], module, datamodule)

    def find(self, step: TransferStep) -> dict[str, Pair]:
        """Compare what each head reads."""
        mine = step.trace.representations
        found = {}
        for group in self._groups([task for task in self.tasks if task in mine]):
            routes = {self.tasks[task]: self.routes[task] for task in group}
            taught = self.teacher.look(step.batch.batches, routes).representations
            for task in group:
                other = taught[self.tasks[task]]
                if len(mine[task]) != len(other):
                    raise UsageError(
                        f"task {task} sees {len(mine[task])} words or cells of the rows here, and "
                        f"{self.tasks[task]} of {self.teacher.name} {len(other)}; use the same "
                        "type of task, tokenizer, size and encoder"
                    )
                found[task] = pair_of(task, self.routes[task], step, mine[task], other)
        return found

    def whose(self, name: str) -> str:
        """Return the source, and its task."""
        return f"{self.tasks[name]} of {self.teacher.name}"

    def wanted(self, sizes: Mapping[str, int]) -> list[str]:
        """Return the tasks whose data sets have rows."""
        return [task for task in self.tasks if any(sizes.get(name) for name in self.routes[task])]

    def _groups(self, tasks: list[str]) -> list[list[str]]:
        """Part tasks so that none has two that learn from the same task of the teacher."""
        groups: list[dict[str, str]] = []
        for task in tasks:
            other = self.tasks[task]
            free = next((group for group in groups if other not in group), None)
            if free is None:
                groups.append(free := {})
            free[other] = task
        return [list(group.values()) for group in groups]


def pair_of(
    task: str, route: tuple[str, ...], step: TransferStep, own: Tensor, other: Tensor
) -> Pair:
    """Return a task's pair, (n, D) and (n, D'), of which a row's vectors count as one row."""
    batches = step.batch.batches
    here = sum(len(batches[name].index) for name in route if name in batches)
    rows = sum(step.batch.sizes.get(name, 0) for name in route)
    return Pair(own, other, rows, counts=here / max(1, len(own)))


def require_own(task: str, own: list[str]) -> None:
    """Check that this run has a task.

    Raises:
        UsageError: it hasn't.
    """
    if task not in own:
        raise UsageError(f"this run has no task {task!r}{hint(task, own, 'its tasks')}")


def require_some(tasks: Mapping[str, str], own: list[str], teacher: Teacher) -> None:
    """Check that there is a task to teach.

    Raises:
        UsageError: there is none.
    """
    if not tasks:
        raise UsageError(
            f"{teacher.name} has no task of the same name as one of this run; it has "
            f"{', '.join(teacher.network.heads) or 'none'}: say which teaches which, "
            f"transfer.tasks={{{own[0]}: TASK OF THE SOURCE}}"
        )

"""Several networks that answer together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from datamodules.batch import Batch
from lightning_modules.task_network import TaskNetwork
from lightning_modules.tasks.base import Task
from lightning_modules.trunks.base import Routes
from lightning_modules.views import EncodedDataset


class Ensemble(TaskNetwork):
    """A task's answer is the average of what the members say that have the task.

    How outputs are averaged is the task's own: ``Task.ensemble_output``, of probabilities where
    there are any.

    Args:
        members: trained networks, of any shapes; their tasks may differ.
        tasks: {name: task} of all members.
        routes: {task: data sets}.
    """

    def __init__(
        self, members: Sequence[TaskNetwork], tasks: Mapping[str, Task], routes: Routes
    ) -> None:
        super().__init__(routes)
        self.members = nn.ModuleList(members)
        self.tasks = dict(tasks)

    def member(self, place: int) -> TaskNetwork:
        """Return one of the networks."""
        return cast("TaskNetwork", self.members[place])

    def modalities(self) -> tuple[str, ...]:
        """Return those of all members."""
        members = map(self.member, range(len(self.members)))
        return tuple(dict.fromkeys(name for member in members for name in member.modalities()))

    def encode(self, batches: Mapping[str, Batch], routes: Routes) -> dict[str, EncodedDataset]:
        """Let each member encode the rows of its tasks: {``member/key``: rows}."""
        found = {}
        for place, member, own in self._members(routes):
            names = {name for datasets in own.values() for name in datasets}
            read = {name: batch for name, batch in batches.items() if name in names}
            for key, seen in member.encode(read, own).items():
                found[f"{place}/{key}"] = seen
        return found

    def predict(self, seen: Mapping[str, EncodedDataset], routes: Routes) -> dict[str, Tensor]:
        """Average what the members make of the rows that they encoded."""
        outputs: dict[str, list[Tensor]] = {}
        for place, member, own in self._members(routes):
            start = f"{place}/"
            read = {k.removeprefix(start): rows for k, rows in seen.items() if k.startswith(start)}
            if read:
                for task, output in member.predict(read, own).items():
                    outputs.setdefault(task, []).append(output)
        return {
            task: self.tasks[task].ensemble_output(torch.stack(o)) for task, o in outputs.items()
        }

    def _members(self, routes: Routes) -> Iterator[tuple[int, TaskNetwork, Routes]]:
        """Yield (number, member, those of the tasks that it has)."""
        for place in range(len(self.members)):
            member = self.member(place)
            own = {task: names for task, names in routes.items() if task in member.routes}
            if own:
                yield place, member, own

"""Several networks whose outputs are averaged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from datamodules.batch import Batch
from lightning_modules.merging.base import MergeMethod, MergeResult
from lightning_modules.merging.evaluator import MergeEvaluator
from lightning_modules.merging.models import Models
from lightning_modules.task_network import CombinesNetworks, TaskNetwork
from lightning_modules.tasks.base import Task
from lightning_modules.trunks.base import Routes
from lightning_modules.views import EncodedDataset


class Ensemble(TaskNetwork):
    """A task's output is the average of the outputs of the members that have the task.

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

    @property
    def networks(self) -> Sequence[TaskNetwork]:
        return [cast("TaskNetwork", member) for member in self.members]

    def modalities(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for one in self.networks for name in one.modalities()))

    def encode(self, batches: Mapping[str, Batch], routes: Routes) -> dict[str, EncodedDataset]:
        """Let each member encode the rows of its tasks: {``member/key``: rows}."""
        found = {}
        for place, member, own in self._members_with_tasks(routes):
            names = {name for datasets in own.values() for name in datasets}
            read = {name: batch for name, batch in batches.items() if name in names}
            for key, encoded in member.encode(read, own).items():
                found[f"{place}/{key}"] = encoded
        return found

    def predict(self, encoded: Mapping[str, EncodedDataset], routes: Routes) -> dict[str, Tensor]:
        """Average what the members make of the rows that they encoded."""
        outputs: dict[str, list[Tensor]] = {}
        for place, member, own in self._members_with_tasks(routes):
            start = f"{place}/"
            read = {
                k.removeprefix(start): rows for k, rows in encoded.items() if k.startswith(start)
            }
            if read:
                for task, output in member.predict(read, own).items():
                    outputs.setdefault(task, []).append(output)
        return {
            task: self.tasks[task].ensemble_output(torch.stack(o)) for task, o in outputs.items()
        }

    def _members_with_tasks(self, routes: Routes) -> Iterator[tuple[int, TaskNetwork, Routes]]:
        """Yield (number, member, those of the tasks that it has)."""
        for place, member in enumerate(self.networks):
            own = {task: names for task, names in routes.items() if task in member.routes}
            if own:
                yield place, member, own


class OutputEnsemble(MergeMethod, CombinesNetworks):
    """p(y | x) = 1/k sum_i p_i(y | x): all models predict, and their outputs are averaged.

    No weights are merged: the result holds all models, and costs as much as all of them. They may
    have different encoders, trunks, widths and starts. Source: Lakshminarayanan et al. 2017,
    "Simple and scalable predictive uncertainty estimation using deep ensembles", section 2.4.

    Examples:
        >>> import torch, pollinate as po
        >>> a, b = {"w": torch.tensor([1.0])}, {"w": torch.tensor([3.0])}
        >>> po.merging.OutputEnsemble().merge_state_dicts({"a": a, "b": b}).state
        {'members.0.w': tensor([1.]), 'members.1.w': tensor([3.])}
    """

    def merge(self, models: Models, evaluator: MergeEvaluator) -> MergeResult:
        state = {
            f"members.{place}.{name}": tensor.clone()
            for place, read in enumerate(models.read)
            for name, tensor in read().items()
        }
        return MergeResult(state, {"members": models.labels})

    @classmethod
    def combine(
        cls,
        networks: Sequence[TaskNetwork],
        tasks: Mapping[str, Task],
        routes: Routes,
        options: Mapping[str, Any],
    ) -> TaskNetwork:
        return Ensemble(networks, tasks, routes)

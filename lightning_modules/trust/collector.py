"""Collects, while a split is measured, the rows that calibration needs."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from datamodules.batch import Batch
from datamodules.counter_rng import uniforms
from lightning_modules.kept_outputs import KeptOutputs
from lightning_modules.task_network import TaskNetwork
from lightning_modules.tasks.base import Task
from lightning_modules.trunks.base import Routes
from lightning_modules.trust.row_features import row_features
from lightning_modules.trust.task_trust import AnsweredRows

MOST_ROWS = 5000  # of a task: more would change the third digit
MOST_NUMBERS = 5_000_000  # of a task's outputs


def can_be_trusted(task: Task) -> bool:
    """Say whether anything can be said of a task's answers beyond the answers."""
    return bool(task.calibrators()) or task.conformal() is not None


class TrustCollector:
    """Keeps a task's outputs, targets and features of some labelled rows of one split.

    Args:
        network: that answers.
        tasks: {name: task}; those that can't be calibrated are left out.
        labelled: {task: labelled rows of the split}; of more than 5,000, or whose outputs have more
            than five million numbers, a share is drawn by the rows' numbers alone.
    """

    def __init__(
        self, network: TaskNetwork, tasks: Mapping[str, Task], labelled: Mapping[str, int]
    ) -> None:
        self.network = network
        self.tasks = {name: task for name, task in tasks.items() if can_be_trusted(task)}
        self.labelled = labelled
        routes: Routes = {name: network.routes[name] for name in self.tasks}
        self._outputs, self._features = KeptOutputs(routes), KeptOutputs(routes)
        self._tap = row_features(network, list(self.tasks))
        self._read: dict[str, Tensor] = {}

    def __enter__(self) -> TrustCollector:
        self._read = self._tap.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._tap.__exit__(None, None, None)

    def add(
        self,
        batches: Mapping[str, Batch],
        task: str,
        output: Tensor,
        target: Tensor,
        present: Tensor,
    ) -> None:
        """Add rows of a task: see ``KeptOutputs.add``."""
        if task not in self.tasks:
            return
        index = torch.cat(
            [batches[name].index for name in self.network.routes[task] if name in batches]
        )
        chosen = present & self._chosen(task, index, output).to(present.device)
        self._outputs.add(batches, task, output, target, chosen)
        features = self._read.pop(task, None)
        if features is not None and len(features) == len(target):
            self._features.add(batches, task, features, target, chosen)

    def take(self) -> dict[str, AnsweredRows]:
        """Return {task: its rows} of all processes on the first one, of its own on others."""
        outputs, features = self._outputs.take(), self._features.take()
        found = {}
        for task, own in outputs.items():
            read = features.get(task)
            whole = read is not None and len(read["output"]) == len(own["output"])
            kept = read["output"] if read is not None and whole else None
            found[task] = AnsweredRows(own["output"], own["target"], kept, own["rows"])
        return found

    def _chosen(self, task: str, index: Tensor, output: Tensor) -> Tensor:
        size = max(1, output[0].numel()) if len(output) else 1
        most = min(MOST_ROWS, MOST_NUMBERS // size)
        share = most / max(1, self.labelled.get(task, 0))
        if share >= 1:
            return torch.ones(len(index), dtype=torch.bool)
        return torch.from_numpy(uniforms(0, index.cpu().numpy(), count=1)[:, 0] < share)

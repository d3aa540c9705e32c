"""Scores networks, single ones and ensembles, on validation and test batches."""

from __future__ import annotations

from collections.abc import Mapping

from lightning.pytorch import LightningModule

from datamodules.batch import MixedBatch
from lightning_modules.metrics import EvaluationMetrics
from lightning_modules.task_network import TaskNetwork
from lightning_modules.task_rows import targets_of
from lightning_modules.tasks.base import Task


class EvaluationModule(LightningModule):
    """Answers and scores; what also learns is a ``MultiTaskModule``.

    Args:
        network: of any kind.
        tasks: {name: task}.
    """

    network: TaskNetwork

    def __init__(self, network: TaskNetwork, tasks: Mapping[str, Task]) -> None:
        super().__init__()
        self.network = network
        self.tasks = dict(tasks)
        self.scores = EvaluationMetrics(tasks)

    def validation_step(self, batch: MixedBatch, batch_idx: int) -> None:
        """Add one batch to the scores."""
        self._evaluate(batch)

    def test_step(self, batch: MixedBatch, batch_idx: int) -> None:
        """Add one batch to the scores."""
        self._evaluate(batch)

    def _evaluate(self, batch: MixedBatch) -> None:
        tasks = [
            task
            for task, names in self.network.routes.items()
            if any(name in batch.batches for name in names)
        ]
        outputs = self.network(batch.batches, tasks)
        found = targets_of(batch.batches, tasks, self.network.routes)
        for task, (target, present) in found.items():
            self.scores.update(task, outputs[task][present], target[present])


def as_evaluated(module: LightningModule) -> EvaluationModule:
    """Return the module as what it is; callbacks are given it as any LightningModule."""
    assert isinstance(module, EvaluationModule)
    return module

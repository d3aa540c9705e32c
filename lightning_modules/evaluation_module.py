"""Scores networks, single ones and ensembles, on validation and test batches."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.plugins.precision import DoublePrecision, HalfPrecision, Precision
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from datamodules.batch import Batch, MixedBatch
from lightning_modules.batch_reader import BatchReader
from lightning_modules.kept_outputs import KeptOutputs, TaskOutputs
from lightning_modules.metrics import EvaluationMetrics, Reduced, stage_metrics
from lightning_modules.task_network import TaskNetwork
from lightning_modules.task_rows import targets_of
from lightning_modules.tasks.base import Label, Task
from lightning_modules.tasks.class_metrics import ConfusionCounts


class RowCollector(Protocol):
    """Takes labelled rows of a task, batch by batch: see ``KeptOutputs.add``."""

    def add(
        self,
        batches: Mapping[str, Batch],
        task: str,
        output: Tensor,
        target: Tensor,
        present: Tensor,
    ) -> None:
        """Add a batch's rows."""


STEP = "step"  # what Lightning takes as the step of the metrics that come with it


class EvaluationModule(LightningModule):
    """Answers and scores, in any Trainer; what also learns is a ``MultiTaskModule``.

    A batch is a ``MixedBatch``, what ``MixedBatch.of`` takes, or what Lightning's
    ``CombinedLoader`` makes of such parts: see ``BatchReader.read``. Logged are
    ``valid|test/<task>/<metric>`` and ``valid|test/score``, the mean of the tasks' main metrics.

    Args:
        network: of any kind.
        tasks: {name: task}.

    Attributes:
        results: {"valid" or "test": {task: {metric: value}}} of the last validation and test.
        confusion: {"valid" or "test": {task: confusion matrix (C, C)}}, of tasks with classes; with
            more than 256 ``Confusions``, whose memory isn't quadratic.
        keep_outputs: the splits, "valid" or "test", of which ``outputs`` are kept; none at first.
        outputs: {split: {task: outputs, targets and numbers of the labelled rows}} of the last
            validation and test; of several processes the first one has those of all.
        collector: is given each labelled row as it is measured; None at first.
    """

    network: TaskNetwork

    def __init__(self, network: TaskNetwork, tasks: Mapping[str, Task]) -> None:
        super().__init__()
        self.network = network
        self.tasks = dict(tasks)
        self.scores = EvaluationMetrics(tasks)
        self.reader = BatchReader(tasks, network.routes, network.modalities())
        self.results: dict[str, dict[str, dict[str, float]]] = {}
        self.confusion: dict[str, dict[str, ConfusionCounts]] = {}
        self.keep_outputs: Collection[str] = ()
        self.outputs: dict[str, dict[str, TaskOutputs]] = {}
        self._kept = KeptOutputs(network.routes)
        self.collector: RowCollector | None = None

    def forward(self, batch: Any) -> dict[str, Tensor]:
        """Return {task: outputs (N, ...)} of the tasks that read a data set of the batch.

        N are the rows of the task's data sets, one data set after the other in the task's order.

        Args:
            batch: as a loader of ``Trainer.fit`` would yield it; targets may be left out.

        Raises:
            UsageError: it doesn't fit the model.
        """
        read = self._read(batch)
        with self.reader.explained(read):
            outputs: dict[str, Tensor] = self.network(read.batches, self._tasks_in(read))
        return outputs

    def setup(self, stage: str) -> None:
        """Keep targets as they are, where the precision rounds inputs: see ``keep_targets``."""
        keep_targets(self.trainer.precision_plugin)

    def _on_before_batch_transfer(self, batch: Any, dataloader_idx: int = 0) -> MixedBatch:
        """Read what the loader yielded, while it is in main memory.

        Lightning's own name for this hook belongs to the data module, if there is one.
        """
        return self._read(super()._on_before_batch_transfer(batch, dataloader_idx), dataloader_idx)

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Add one batch to the scores."""
        self._evaluate(batch, dataloader_idx, "valid")

    def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Add one batch to the scores."""
        self._evaluate(batch, dataloader_idx, "test")

    def predict_step(
        self, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> dict[str, list[Label]]:
        """Return {task: an answer for people a row}, rows in the order of ``forward``."""
        read = self._read(batch, dataloader_idx)
        with self.reader.explained(read):
            routes = self.network.routes_of(self._tasks_in(read))
            outputs = self.network.answer(read.batches, routes)
        return {task: self.tasks[task].decode(output) for task, output in outputs.items()}

    def on_validation_epoch_end(self) -> None:
        self._end_evaluation("valid")

    def on_validation_end(self) -> None:
        """Forget at which step the scores were logged."""
        self.trainer.callback_metrics.pop(STEP, None)

    def on_test_epoch_end(self) -> None:
        self._end_evaluation("test")

    def _read(self, batch: Any, dataloader_idx: int = 0) -> MixedBatch:
        """Return a loader's batch as the model takes it."""
        if isinstance(batch, MixedBatch) and batch.is_checked:
            return batch
        trainer = self._trainer
        name = None if trainer is None else loader_name(trainer, dataloader_idx)
        dtype = next((p.dtype for p in self.network.parameters()), None)
        return self.reader.read(batch, name, dtype)

    def _tasks_in(self, batch: MixedBatch) -> list[str]:
        routes = self.network.routes.items()
        return [task for task, names in routes if any(name in batch.batches for name in names)]

    def _limits(self, tasks: Sequence[str], stage: str) -> dict[str, int]:
        """Return {task: rows that it writes answers for}, where validation takes some alone."""
        trainer = self._trainer  # None where a merge is tried
        if stage != "valid" or trainer is None or trainer.state.fn != TrainerFn.FITTING:
            return {}
        known = {task: self.tasks[task].valid_rows for task in tasks}
        return {task: limit for task, limit in known.items() if limit is not None}

    def _evaluate(self, given: Any, dataloader_idx: int, stage: str) -> None:
        batch = self._read(given, dataloader_idx)
        tasks = self._tasks_in(batch)
        if not tasks:  # a member of an ensemble need not know all of its data sets
            return
        with self.reader.explained(batch):
            outputs = self.network.answer(
                batch.batches, self.network.routes_of(tasks), self._limits(tasks, stage)
            )
            found = targets_of(batch.batches, tasks, self.network.routes)
            complete = batch.complete_tasks(self.network.routes)
            for task, (target, present) in found.items():
                output = outputs[task]
                if stage in self.keep_outputs:
                    self._kept.add(batch.batches, task, output, target, present)
                if self.collector is not None:
                    self.collector.add(batch.batches, task, output, target, present)
                if task not in complete:
                    output, target = output[present], target[present]
                self.scores.update(task, output, target)

    def _end_evaluation(self, stage: str) -> None:
        """Keep the scores of a split, and log them; nothing is left of a sanity check."""
        numbers, matrices = self.scores.take()
        kept = self._kept.take() if stage in self.keep_outputs else None
        if not self.trainer.sanity_checking:
            if kept is not None:
                self.outputs[stage] = kept
            self.results[stage], self.confusion[stage] = numbers, matrices
            metrics = stage_metrics(self.tasks, stage, numbers)
            if self.trainer.state.fn == TrainerFn.FITTING:  # else Lightning's own step is right
                metrics[STEP] = float(self.global_step)
            self._log_reduced(metrics)

    def _log_reduced(self, metrics: Mapping[str, float]) -> None:
        """Log numbers that all processes have, at the end of an epoch."""
        for name, value in {} if self.trainer.barebones else metrics.items():
            self.log(name, Reduced(value), metric_attribute="scores")


def keep_targets(plugin: Precision) -> None:
    """Have a trainer's precision convert the inputs of a batch alone, once for all its stages.

    In 16 bits the year 1998 would be 2000, which is neither to be learnt nor measured against.
    """
    convert = plugin.convert_input
    if isinstance(convert, KeepingTargets) or not isinstance(
        plugin, HalfPrecision | DoublePrecision
    ):
        return
    # of this trainer alone
    plugin.convert_input = KeepingTargets(convert)  # type: ignore[method-assign, assignment]


class KeepingTargets:
    """Converts what a loader yielded, but no targets.

    Args:
        convert: converts all of it.
    """

    def __init__(self, convert: Callable[[Any], Any]) -> None:
        self.convert = convert

    def __call__(self, batch: Any) -> Any:
        found = self.convert(batch)
        if not isinstance(batch, MixedBatch):
            return found
        given = batch.batches.items()
        kept = {name: replace(found.batches[name], targets=rows.targets) for name, rows in given}
        return replace(found, batches=kept)


def loader_name(trainer: Trainer, number: int) -> str | None:
    """Return the name of an evaluation's loader, where the loaders are given as a dictionary."""
    loaders = None
    if trainer.testing:
        loaders = trainer.test_dataloaders
    elif trainer.predicting:
        loaders = trainer.predict_dataloaders
    elif trainer.validating or trainer.sanity_checking:
        loaders = trainer.val_dataloaders
    return str(list(loaders)[number]) if isinstance(loaders, Mapping) else None


def as_evaluated(module: LightningModule) -> EvaluationModule:
    """Narrow the type of a module, which callbacks get as a LightningModule."""
    assert isinstance(module, EvaluationModule)
    return module

"""Losses, rows and scores by task, in training and evaluation."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor, distributed, nn
from torchmetrics import Metric

from lightning_modules.distributed import all_reduce_sum, gather_tensors
from lightning_modules.task_rows import Targets
from lightning_modules.tasks.base import Task
from lightning_modules.tasks.class_metrics import ConfusionCounts


class RunningLosses:
    """Mean loss and number of labelled rows by task, over any stretch of steps.

    totals: (T, 2) float64 on the CPU: sum of losses, number of rows, of this process.
    """

    def __init__(self, tasks: Mapping[str, Task]) -> None:
        self.tasks = list(tasks)
        self.totals = torch.zeros(len(self.tasks), 2, dtype=torch.float64)

    def add(self, sums: Mapping[str, Tensor], rows: Mapping[str, int]) -> None:
        """Add one batch: {task: sum of its rows' losses}, {task: number of those rows}."""
        if not sums:
            return
        places = [self.tasks.index(task) for task in sums]
        totals = torch.stack([total.detach() for total in sums.values()]).double().cpu()
        counts = torch.tensor([rows[task] for task in sums], dtype=torch.float64)
        self.totals[places] += torch.stack([totals, counts], dim=1)

    def take(self) -> dict[str, float]:
        """Return {task: mean loss over all ranks} of the tasks that had rows, and start anew."""
        totals = all_reduce_sum(self.totals)
        self.totals = torch.zeros_like(self.totals)
        return {
            task: (total / rows).item()
            for task, (total, rows) in zip(self.tasks, totals, strict=True)
            if rows > 0
        }


class EvaluationMetrics(nn.Module):
    """All metrics of all tasks on one split."""

    def __init__(self, tasks: Mapping[str, Task]) -> None:
        super().__init__()
        self.tasks = dict(tasks)
        self.metrics = nn.ModuleDict({name: task.metrics() for name, task in tasks.items()})
        self.losses = RunningLosses(tasks)

    def update(self, task: str, output: Tensor, target: Tensor) -> None:
        """Add labelled rows of one task: outputs (N, ...) and targets (N, ...)."""
        own = self.tasks[task]
        self.losses.add({task: own.answer_loss(output, target).sum()}, {task: len(target)})
        if len(target):
            metric_input, wanted = own.metric_input(output), own.metric_target(target)
            self.metrics[task].update(metric_input, wanted)  # type: ignore[operator]  # a collection

    def take(self) -> tuple[dict[str, dict[str, float]], dict[str, ConfusionCounts]]:
        """Return ({task: {metric: value}}, {task: confusions}) over all ranks; start anew.

        Tasks without labelled rows are left out.
        """
        losses = self.losses.take()
        numbers: dict[str, dict[str, float]] = {}
        matrices: dict[str, ConfusionCounts] = {}
        collections: dict[str, Any] = {task: self.metrics[task] for task in losses}
        own = [one for each in collections.values() for one in each.values(copy_state=False)]
        with exchanged_at_once(own):
            for task, collection in collections.items():
                numbers[task] = {"loss": losses[task]}
                for name, value in collection.compute().items():
                    if isinstance(value, Tensor) and value.ndim == 0:
                        numbers[task][name] = value.item()
                    else:
                        matrices[task] = value.cpu()
        for collection in self.metrics.values():
            collection.reset()  # type: ignore[operator]
        return numbers, matrices


def update_metric(metric: Metric, output: Tensor, target: Tensor) -> None:
    """Give a metric rows: outputs (N, ...) and targets (N, ...).

    No rows count as an update, too: the ranks must agree on whether a metric was given any.
    """
    if len(target) or getattr(metric, "collective", False):
        metric.update(output, target)
    else:
        metric._update_count += 1


def metric_state(metric: Metric) -> dict[str, Any]:
    """Return a metric's accumulated state as plain tensors and numbers."""
    return {name: getattr(metric, name).clone() for name in metric._defaults} | {
        "_update_count": metric._update_count
    }


def load_metric_state(metric: Metric, state: Mapping[str, Any]) -> None:
    """Give a metric back what ``metric_state`` returned."""
    for name, value in state.items():
        setattr(metric, name, value.to(metric.device) if isinstance(value, Tensor) else value)
    metric._computed = None


class TrainingMetrics(nn.Module):
    """Losses, rows and scores of training rows, by task.

    losses: of this rank, since they were last taken.
    rows: {task: labelled rows over all ranks}; epoch_rows: those of the epoch under way.
    """

    def __init__(self, tasks: Mapping[str, Task]) -> None:
        super().__init__()
        self.tasks = dict(tasks)
        self.losses = RunningLosses(tasks)
        self.rows = dict.fromkeys(tasks, 0)
        self.epoch_rows = dict.fromkeys(tasks, 0)
        self.metrics = nn.ModuleDict({n: t.training_metric() for n, t in tasks.items()})

    def count(
        self,
        sums: Mapping[str, Tensor],
        outputs: Mapping[str, Tensor],
        targets: Targets,
        labelled: Mapping[str, int],
        complete: Collection[str] = (),
    ) -> None:
        """Add a step.

        Args:
            sums: {task: sum of the losses of this rank's rows}.
            outputs: {task: (N, ...)} of this rank.
            targets: of this rank.
            labelled: {task: rows over all ranks}.
            complete: tasks of which every row has a label.
        """
        own, metrics = {}, dict(self._metrics())
        for task, (target, present) in targets.items():
            output = outputs[task].detach()
            if task not in complete:  # to look for rows without a label would wait for a device
                output, target = output[present], target[present]
            own[task] = len(target)
            update_metric(metrics[task], self.tasks[task].metric_input(output), target)
            self.rows[task] += labelled[task]
            self.epoch_rows[task] += labelled[task]
        self.losses.add(sums, own)

    def take_scores(self) -> dict[str, float]:
        """Return {task: score} over the epoch and all ranks, and start anew."""
        updated = {task: metric for task, metric in self._metrics() if has_updates(metric)}
        with exchanged_at_once(list(updated.values())):
            scores = {task: metric.compute().item() for task, metric in updated.items()}
        for _, metric in self._metrics():
            metric.reset()
        return scores

    def take_epoch_rows(self) -> dict[str, int]:
        """Return {task: labelled rows of the epoch}, and start anew."""
        rows, self.epoch_rows = self.epoch_rows, dict.fromkeys(self.tasks, 0)
        return rows

    def clear(self) -> None:
        """Count from zero."""
        self.losses = RunningLosses(self.tasks)
        self.rows = dict.fromkeys(self.tasks, 0)
        self.take_epoch_rows()
        for _, metric in self._metrics():
            metric.reset()

    def state(self) -> dict[str, Any]:
        """Return what this rank gathered, as plain values."""
        return {
            "losses": self.losses.totals.clone(),
            "rows_seen": dict(self.rows),
            "epoch_rows": dict(self.epoch_rows),
            "scores": {name: metric_state(m) for name, m in self._metrics()},
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state`` returned."""
        self.losses.totals = state["losses"].clone()
        self.rows = dict(state["rows_seen"])
        self.epoch_rows = dict(state["epoch_rows"])
        for name, metric in self._metrics():
            load_metric_state(metric, state["scores"][name])

    def _metrics(self) -> list[tuple[str, Any]]:
        return list(self.metrics.items())


def has_updates(metric: Any) -> bool:
    """Say whether the metric was given rows; the same on every rank, since steps are."""
    return bool(metric._update_count)


@contextmanager
def exchanged_at_once(metrics: Sequence[Metric]) -> Iterator[None]:
    """Exchange the states of all metrics together, for ``compute`` of each inside the block.

    torchmetrics exchanges one state after the other, each by up to three collectives.

    Args:
        metrics: those that have updates on any rank, the same on all; each is computed once inside
            the block, in this order.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        yield
        return
    sent: list[Tensor] = []

    def note(tensor: Tensor, group: Any = None) -> list[Tensor]:
        sent.append(tensor)
        return [tensor]

    for metric in metrics:
        states = {name: getattr(metric, name) for name in metric._defaults}
        metric._sync_dist(note)
        for name, state in states.items():
            setattr(metric, name, state)
    found = gather_tensors(sent)
    usual = [metric.dist_sync_fn for metric in metrics]
    for metric in metrics:
        metric.dist_sync_fn = lambda tensor, group=None: next(found)
    try:
        yield
    finally:
        for metric, function in zip(metrics, usual, strict=True):
            metric.dist_sync_fn = function


class Reduced(Metric):
    """A number that all processes have already, so that ``self.log`` exchanges nothing for it."""

    full_state_update = False

    def __init__(self, number: float) -> None:
        super().__init__(sync_on_compute=False)
        self.number = torch.tensor(number, dtype=torch.float64)  # on the CPU: no device waits
        self._update_count = 1

    def update(self) -> None:
        """Do nothing."""

    def compute(self) -> Tensor:
        return self.number


def publish(trainer: Trainer, metrics: Mapping[str, float]) -> None:
    """Give metrics that all processes have to loggers, and to callbacks that monitor one.

    A callback's own come when it has them, not every ``log_every_n_steps``; the step is the number
    of optimizer steps. ``self.log`` does much besides: a tenth of a millisecond for each number.
    """
    values = {n: torch.tensor(value, dtype=torch.float64) for n, value in metrics.items()}
    trainer.callback_metrics.update(values)
    trainer.logged_metrics.update(values)
    for logger in trainer.loggers:
        logger.log_metrics(dict(metrics), step=trainer.global_step)


def stage_metrics(
    tasks: Mapping[str, Task], stage: str, numbers: Mapping[str, Mapping[str, float]]
) -> dict[str, float]:
    """Return the flat metrics of one evaluation, with the mean of the tasks' main metrics."""
    named = {
        f"{stage}/{task}/{metric}": value
        for task, values in numbers.items()
        for metric, value in values.items()
    }
    mains = [values[tasks[task].score] for task, values in numbers.items()]
    mains = [value for value in mains if value == value]  # R2 of a single row isn't a number
    return named | ({f"{stage}/score": sum(mains) / len(mains)} if mains else {})

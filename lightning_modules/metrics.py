"""What is measured of a run: losses, rows and scores by task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from lightning_modules.processes import together
from lightning_modules.tasks.base import Task


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
        totals = summed(self.totals)
        self.totals = torch.zeros_like(self.totals)
        return {
            task: (total / rows).item()
            for task, (total, rows) in zip(self.tasks, totals, strict=True)
            if rows > 0
        }


class Scores(nn.Module):
    """All metrics of all tasks on one split."""

    def __init__(self, tasks: Mapping[str, Task]) -> None:
        super().__init__()
        self.tasks = dict(tasks)
        self.metrics = nn.ModuleDict({name: task.metrics() for name, task in tasks.items()})
        self.losses = RunningLosses(tasks)

    def update(self, task: str, output: Tensor, target: Tensor) -> None:
        """Add labelled rows of one task: outputs (N, ...) and targets (N, ...)."""
        self.losses.add({task: self.tasks[task].loss(output, target).sum()}, {task: len(target)})
        if len(target):
            measured = self.tasks[task].measured(output)
            self.metrics[task].update(measured, target)  # type: ignore[operator]  # a collection

    def take(self) -> tuple[dict[str, dict[str, float]], dict[str, Tensor]]:
        """Return ({task: {metric: value}}, {task: confusion matrix}) over all ranks; start anew.

        Tasks without labelled rows are left out.
        """
        losses = self.losses.take()
        numbers: dict[str, dict[str, float]] = {}
        matrices: dict[str, Tensor] = {}
        for task, collection in self.metrics.items():
            if task in losses:
                values: dict[str, Any] = collection.compute()  # type: ignore[operator]
                numbers[task] = {"loss": losses[task]}
                for name, value in values.items():
                    if value.ndim == 0:
                        numbers[task][name] = value.item()
                    else:
                        matrices[task] = value.cpu()
            collection.reset()  # type: ignore[operator]
        return numbers, matrices


def summed(values: Tensor) -> Tensor:
    """Return the sum over all ranks, on the CPU; the values themselves in a single process."""
    if not together():
        return values
    on_gpu = torch.distributed.get_backend() == "nccl"
    shared = values.cuda() if on_gpu else values.clone()
    torch.distributed.all_reduce(shared)
    return shared.cpu()


def update(metric: Metric, output: Tensor, target: Tensor) -> None:
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

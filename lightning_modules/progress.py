"""What a run has trained on so far."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from lightning_modules.metrics import RunningLosses, load_metric_state, metric_state, update
from lightning_modules.targets import Targets
from lightning_modules.tasks.base import Task


class Progress(nn.Module):
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
    ) -> None:
        """Add a step.

        Args:
            sums: {task: sum of the losses of this rank's rows}.
            outputs: {task: (N, ...)} of this rank.
            targets: of this rank.
            labelled: {task: rows over all ranks}.
        """
        own, metrics = {}, dict(self._metrics())
        for task, (target, present) in targets.items():
            found = target[present]
            own[task] = len(found)
            measured = self.tasks[task].measured(outputs[task].detach()[present])
            update(metrics[task], measured, found)
            self.rows[task] += labelled[task]
            self.epoch_rows[task] += labelled[task]
        self.losses.add(sums, own)

    def take_scores(self) -> dict[str, float]:
        """Return {task: score} over the epoch and all ranks, and start anew."""
        scores = {}
        for task, metric in self._metrics():
            if has_updates(metric):
                scores[task] = metric.compute().item()
            metric.reset()
        return scores

    def take_epoch_rows(self) -> dict[str, int]:
        """Return {task: labelled rows of the epoch}, and start anew."""
        rows, self.epoch_rows = self.epoch_rows, dict.fromkeys(self.tasks, 0)
        return rows

    def state(self) -> dict[str, Any]:
        """Return what this rank gathered, as plain values."""
        return {
            "losses": self.losses.totals.clone(),
            "rows_seen": dict(self.rows),
            "epoch_rows": dict(self.epoch_rows),
            "scores": {name: metric_state(m) for name, m in self._metrics()},
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on with what ``state`` returned."""
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

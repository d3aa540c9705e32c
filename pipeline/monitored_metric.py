"""The metric that chooses best.ckpt and ends a run early: it exists, and has a better end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torchmetrics import Metric
from torchmetrics.classification import MulticlassConfusionMatrix

from datamodules.mixed_datamodule import MixedDataModule
from lightning_modules.tasks.base import Task, as_task
from lightning_modules.tasks.class_metrics import FrequentConfusions
from pollinate.errors import UsageError
from pollinate.suggest import hint

MEAN_SCORE = "valid/score"
MATRICES = (MulticlassConfusionMatrix, FrequentConfusions)
MODES = {True: "max", False: "min", None: None}


def monitored_mode(config: Mapping[str, Any], datamodule: MixedDataModule) -> str:
    """Return which end of ``checkpoint.monitor`` is best, ``max`` or ``min``.

    Raises:
        UsageError: no validation measures it, or ``checkpoint.mode`` is the wrong end.
    """
    monitor, given = config["checkpoint"]["monitor"], config["checkpoint"]["mode"]
    known: dict[str, str | None] = {MEAN_SCORE: "max"}
    for name, task in datamodule.tasks.items():
        known |= {f"valid/{name}/{own}": mode for own, mode in directions(as_task(task)).items()}
    if monitor not in known:
        raise UsageError(
            f"checkpoint.monitor must be a metric of the validation, got {monitor}"
            f"{hint(monitor, known, 'metrics')}"
        )
    require_validation(config, datamodule, monitor)
    right = known[monitor]
    if given is None and right is None:
        raise UsageError(
            f"checkpoint.mode must say which end of {monitor} is best, as the metric doesn't: "
            "checkpoint.mode=max, or min"
        )
    if given is not None and right is not None and given != right:
        better = "larger" if right == "max" else "smaller"
        raise UsageError(
            f"checkpoint.mode must be {right}, as a {better} {monitor} is better, got {given}; "
            "leave checkpoint.mode out"
        )
    return str(given or right)


def directions(task: Task) -> dict[str, str | None]:
    """Return {metric: max, min, or None where it doesn't say}, of a validation."""
    found: dict[str, str | None] = {"loss": "min"}
    for name, metric in task.metrics().items():
        if isinstance(metric, Metric) and not isinstance(metric, MATRICES):
            found[str(name)] = MODES[metric.higher_is_better]
    return found | {task.score: "max"}


def require_validation(
    config: Mapping[str, Any], datamodule: MixedDataModule, monitor: str
) -> None:
    """Check that early stopping, or a metric of one task, has validation rows.

    Raises:
        UsageError: there are none.
    """
    parts = datamodule.parts["valid"]
    rows = {
        name: sum(int(parts[dataset].present[name].sum()) for dataset in task.datasets)
        for name, task in datamodule.tasks.items()
    }
    patience = config["early_stopping"]["patience"]
    skipped = config["trainer"].get("limit_val_batches") == 0
    if patience is not None and (skipped or not any(rows.values())):
        reason = "trainer.limit_val_batches=0" if skipped else "data without validation rows"
        raise UsageError(
            f"early_stopping.patience={patience} counts validations, got {reason}; "
            "leave one of the two out"
        )
    task = monitor.removeprefix("valid/").rpartition("/")[0]
    if not skipped and task in rows and not rows[task] and any(rows.values()):
        raise UsageError(
            f"checkpoint.monitor must be a metric of a task with validation rows, got {monitor}; "
            f"leave it out to use {MEAN_SCORE}"
        )

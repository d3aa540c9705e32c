"""How a run ended: the table for people, summary.json for scripts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from shlex import quote
from typing import Any

from rich.console import Console
from rich.table import Table
from torch import Tensor

from datamodules.mixed_datamodule import MixedDataModule
from lightning_modules.checkpoints import BEST, LAST
from lightning_modules.tasks.base import as_task
from pipeline.run_folder import RunFolder
from pipeline.text_format import relpath
from pipeline.tracking.mlflow_settings import DATABASE, resolve_uri
from pipeline.tracking.redact import redact_text

TaskMetrics = dict[str, dict[str, float]]  # {task: {metric: value}}


@dataclass
class RunSummary:
    """summary.json.

    status: finished, interrupted or failed.
    run_id: of the MLflow run, None if no server has answered.
    steps: optimizer steps; seconds: wall time of this command.
    valid, test: scores of the best weights; baseline: of the best constant answer, on test.
    rows_seen: labelled training rows by task, each as often as it came.
    labels: {task: training rows with a label that the run may see}.
    parameters: weights of the network, {total, trained}.
    floats_sent, synchronisations: of the training, of each process; see ``Traffic``. None where
        that isn't counted: of sharded weights.
    """

    status: str
    run_id: str | None = None
    steps: int = 0
    seconds: float = 0.0
    seed: int = 0
    valid: TaskMetrics = field(default_factory=dict)
    test: TaskMetrics = field(default_factory=dict)
    baseline: TaskMetrics = field(default_factory=dict)
    rows_seen: dict[str, int] = field(default_factory=dict)
    labels: dict[str, int] = field(default_factory=dict)
    parameters: dict[str, int] = field(default_factory=dict)
    floats_sent: int | None = 0
    synchronisations: int | None = 0
    message: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def labels(datamodule: MixedDataModule, task: str, split: str) -> Iterator[Tensor]:
    """Yield a task's targets (n, ...) in one split, of the rows that have one."""
    for name in datamodule.tasks[task].datasets:
        yield from datamodule.parts[split][name].labels(task)


def modalities_of(datamodule: MixedDataModule, task: str) -> str:
    """Return what a task reads, for people: ``image`` or ``image+text``."""
    datasets = datamodule.tasks[task].datasets
    return "+".join(sorted({m for name in datasets for m in datamodule.datasets[name].inputs}))


def constant_baselines(datamodule: MixedDataModule, split: str = "test") -> TaskMetrics:
    """Return each task's score of the best constant answer on one split."""
    return {
        name: as_task(spec.task).baseline_of(labels(datamodule, name, split))
        for name, spec in datamodule.tasks.items()
    }


def print_table(console: Console, summary: RunSummary, datamodule: MixedDataModule) -> None:
    """Print one line a task."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("task")
    table.add_column("modality")
    table.add_column("metric")
    for heading in ("valid", "test", "baseline", "rows seen"):
        table.add_column(heading, justify="right")
    for name, spec in datamodule.tasks.items():
        metric = as_task(spec.task).score
        table.add_row(
            name,
            modalities_of(datamodule, name),
            metric,
            *(_number(part, name, metric) for part in (summary.valid, summary.test)),
            _number(summary.baseline, name, metric),
            f"{summary.rows_seen.get(name, 0):,}",
        )
    console.print(table)


def _number(numbers: Mapping[str, Mapping[str, float]], task: str, metric: str) -> str:
    value = numbers.get(task, {}).get(metric)
    return "-" if value is None else f"{value:.3f}"


def print_next_steps(console: Console, folder: RunFolder, tracking: Mapping[str, Any]) -> None:
    """Say where everything is and what can be done with it."""
    path = relpath(folder.path)
    lines = [("run folder", str(path))]
    if tracking.get("uri"):
        lines.append(("MLflow", browse_hint(tracking["uri"])))
    # without a validation score there is no best
    name = (
        LAST
        if (folder.checkpoints / LAST).exists() and not (folder.checkpoints / BEST).exists()
        else BEST
    )
    checkpoint = quote(f"checkpoint={path / 'checkpoints' / name}")
    lines += [
        ("predict", f"python -m pipeline.predict {checkpoint} input=FILE output=FILE"),
        ("go on", f"{resume_command(folder)} trainer.max_epochs=N"),
    ]
    for label, text in lines:
        console.print(f"[bold]{label:<11}[/bold]{text}", highlight=False, soft_wrap=True)


def resume_command(folder: RunFolder) -> str:
    """Return the command that goes on with a run, as a shell takes it."""
    return f"python -m pipeline.fit {quote(f'resume={relpath(folder.path)}')}"


def browse_hint(uri: str) -> str:
    """Say how to look at a tracking server or database, without its password."""
    if uri.startswith("http"):
        return redact_text(uri)
    if uri == resolve_uri(DATABASE):
        return "python -m pipeline.ui"
    return f"python -m pipeline.ui {quote(f'uri={redact_text(uri)}')}"

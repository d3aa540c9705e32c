"""How a run ended: the table for people, summary.json for scripts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import chain
from typing import Any

from rich.console import Console

from datamodules.mixed_datamodule import MixedDataModule
from lightning_modules.checkpoints import BEST, LAST
from lightning_modules.tasks.base import as_task
from pipeline.run_folder import RunFolder
from pipeline.terminal import new_table, print_labelled
from pipeline.text_format import cell, relpath
from pipeline.tracking.addresses import address_overrides
from pipeline.tracking.mlflow_settings import DATABASE, resolve_uri
from pipeline.tracking.redact import redact_text
from pollinate.overrides import override
from pollinate.program import shell_command

TaskMetrics = dict[str, dict[str, float]]  # {task: {metric: value}}


@dataclass
class RunSummary:
    """summary.json.

    status: finished, interrupted or failed.
    run_id: of the MLflow run, None if no server has answered.
    steps: optimizer steps; seconds: wall time of this command.
    paused: epochs after which an interrupted run paused, None if it didn't.
    valid, test: scores of the best weights; baseline: of the best constant answer, on test.
    linear: scores of a linear model on test; see ``pipeline.linear``.
    no_linear: {task: why there is no linear model of it}.
    calibration: {task: what calibrates it, and figures before and after on test}.
    rows_seen: labelled training rows by task, each as often as it came.
    labels: {task: training rows with a label that the run may see}.
    parameters: weights of the network, {total, trained}.
    floats_sent, synchronisations: of the training, of each process; see ``Traffic``. None where
        that isn't counted: of sharded weights.
    problems: what failed after training and took nothing else along: plots, the table, the model.
    """

    status: str
    run_id: str | None = None
    steps: int = 0
    paused: int | None = None
    seconds: float = 0.0
    seed: int = 0
    valid: TaskMetrics = field(default_factory=dict)
    test: TaskMetrics = field(default_factory=dict)
    baseline: TaskMetrics = field(default_factory=dict)
    linear: TaskMetrics = field(default_factory=dict)
    no_linear: dict[str, str] = field(default_factory=dict)
    calibration: dict[str, dict[str, Any]] = field(default_factory=dict)
    rows_seen: dict[str, int] = field(default_factory=dict)
    labels: dict[str, int] = field(default_factory=dict)
    parameters: dict[str, int] = field(default_factory=dict)
    floats_sent: int | None = 0
    synchronisations: int | None = 0
    message: str | None = None
    problems: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def numbers(self, task: str, metric: str) -> list[float | None]:
        """Return a metric of a task on valid and test, of the best constant, and of a linear model.

        None: there is none.
        """
        parts = (self.valid, self.test, self.baseline, self.linear)
        return [part.get(task, {}).get(metric) for part in parts]


def modalities_of(datamodule: MixedDataModule, task: str) -> str:
    """Return what a task reads, for people: ``image`` or ``image+text``."""
    datasets = datamodule.tasks[task].datasets
    return "+".join(sorted({m for name in datasets for m in datamodule.datasets[name].inputs}))


def constant_baselines(datamodule: MixedDataModule, split: str = "test") -> TaskMetrics:
    """Return each task's score of the best constant answer on one split."""
    parts = datamodule.parts[split]
    return {
        name: as_task(spec).baseline_of(
            chain.from_iterable(parts[d].labels(name) for d in spec.datasets)
        )
        for name, spec in datamodule.tasks.items()
    }


def print_table(console: Console, summary: RunSummary, datamodule: MixedDataModule) -> None:
    headings = ("task", "modality", "metric", "valid", "test", "baseline", "linear", "rows seen")
    table = new_table(*headings, numbers=5)
    for name, spec in datamodule.tasks.items():
        metric, rows = as_task(spec).score, summary.rows_seen.get(name, 0)
        numbers = [cell(value) for value in summary.numbers(name, metric)]
        table.add_row(name, modalities_of(datamodule, name), metric, *numbers, f"{rows:,}")
    console.print(table)


PRETRAINED = {"text": "encoder/text=minilm", "image": "encoder/image=efficientnet_lite0"}


def linear_verdict(summary: RunSummary, datamodule: MixedDataModule) -> str | None:
    """Say which tasks are not above a linear model on test, and what to try; None: all are."""
    below = []
    for name, spec in datamodule.tasks.items():
        _, test, _, linear = summary.numbers(name, as_task(spec).score)
        # both may be perfect
        if test is not None and linear is not None and test <= linear and test < 1:
            below.append(f"{name} ({cell(test)}, linear {cell(linear)})")
    if not below:
        return None
    read = {m for name in datamodule.datasets for m in datamodule.datasets[name].inputs}
    advice = [option for modality, option in PRETRAINED.items() if modality in read]
    tried = f"train longer, or from a pre-trained network: {' '.join(advice)}"
    return (
        f"not above a linear model on test: {', '.join(below)}; "
        f"{tried if advice else 'train longer'}"
    )


def print_next_steps(
    console: Console, folder: RunFolder, tracking: Mapping[str, Any], stopped_early: bool
) -> None:
    # without a validation score there is no best
    only_last = (folder.checkpoints / LAST).exists() and not (folder.checkpoints / BEST).exists()
    print_result(console, folder, tracking, LAST if only_last else BEST)
    patience = "early_stopping.patience=null " if stopped_early else ""
    go_on = f"{resume_command(folder, tracking)} {patience}trainer.max_epochs=N"
    print_labelled(console, [("resume", go_on)])


def print_result(
    console: Console, folder: RunFolder, tracking: Mapping[str, Any], checkpoint: str = BEST
) -> None:
    path, uri = relpath(folder.path), tracking.get("uri")
    given = override("checkpoint", path / "checkpoints" / checkpoint)
    print_labelled(
        console,
        [
            ("run folder", path),
            *([("MLflow", browse_hint(uri))] if uri else []),
            ("predict", shell_command("predict", given, "input=FILE", "output=FILE")),
        ],
    )


def resume_command(folder: RunFolder, tracking: Mapping[str, Any]) -> str:
    named = address_overrides(tracking.get("uri"), "tracking.uri")
    return shell_command("fit", override("resume", relpath(folder.path)), *named)


def browse_hint(uri: str) -> str:
    """Say how to look at a tracking server or database, without its password."""
    if uri.startswith("http"):
        return redact_text(uri)
    if uri == resolve_uri(DATABASE):
        return shell_command("ui")
    return shell_command("ui", override("uri", redact_text(uri)))

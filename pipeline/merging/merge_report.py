"""How a merge ended: the table for people, summary.json for scripts, the tracker's record."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from shlex import quote
from typing import Any

from rich.console import Console
from rich.table import Table

from datamodules.mixed_datamodule import MixedDataModule
from lightning_modules.building import build_tasks, task_datasets
from lightning_modules.callbacks.measure import stage_metrics
from lightning_modules.checkpoints import BEST
from lightning_modules.merging.evaluator import MergeEvaluator
from pipeline import training_run as record
from pipeline.merging.merge_scores import MergeScores
from pipeline.plots.confusion import plot_confusion_matrix
from pipeline.run_folder import RunFolder
from pipeline.run_summary import RunSummary, TaskMetrics, browse_hint
from pipeline.serving.model_folder import export_model
from pipeline.text_format import relpath
from pipeline.tracking.loggers import RunLogger

MOST_COLUMNS = 4  # models with a column of their own
MOST_NUMBERS = 12  # coefficients on one line


@dataclass
class MergeSummary(RunSummary):
    """summary.json of a merge; what isn't said here is as for ``RunSummary``.

    method: name of its class; coefficients: given, or chosen on validation data.
    parents: label, path, run_id, checksum, tasks, valid and test of each; base: the same, without
        scores, or None.
    """

    method: str = ""
    coefficients: dict[str, Any] = field(default_factory=dict)
    parents: list[dict[str, Any]] = field(default_factory=list)
    base: dict[str, Any] | None = None
    tasks: list[str] = field(default_factory=list)

    def set_scores(self, scored: MergeScores, baseline: TaskMetrics) -> None:
        """Take over the scores."""
        self.valid, self.test = scored.result["valid"], scored.result["test"]
        self.baseline = baseline
        for parent, own in zip(self.parents, scored.models, strict=True):
            parent |= own


def coefficient_lines(coefficients: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a person wants to know of coefficients; many are left to summary.json."""
    for name, value in coefficients.items():
        if not isinstance(value, Mapping):
            yield f"{name}: {text(value)}"
        elif any(isinstance(one, Mapping) for one in value.values()):
            yield f"{name}: {len(value)}, see summary.json"
        elif len(value) <= MOST_NUMBERS:
            yield f"{name}: {', '.join(f'{key} {text(one)}' for key, one in value.items())}"


def text(value: Any) -> str:
    """Return a number with three digits, anything else as it is."""
    if isinstance(value, float):
        return f"{value:.3g}"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def print_merge(
    console: Console,
    summary: MergeSummary,
    folder: RunFolder,
    config: Mapping[str, Any],
    spec: Mapping[str, Any],
) -> None:
    """Print scores, if there are any, and what can be done with the result."""
    if summary.test or summary.valid:
        tasks = build_tasks({**spec["config"], "allow_targets": config["allow_targets"]})
        scores = {name: task.score for name, task in tasks.items()}
        console.print(table(summary, scores, modalities(spec["config"]["data"])))
    path = relpath(folder.path)
    best = quote(f"checkpoint={path / 'checkpoints' / BEST}")
    lines = [("run folder", str(path))]
    if config["tracking"].get("uri"):
        lines.append(("MLflow", browse_hint(config["tracking"]["uri"])))
    lines += [
        ("predict", f"python -m pipeline.predict {best} input=FILE output=FILE"),
        ("evaluate", f"python -m pipeline.evaluate {best} split=train"),
    ]
    for label, line in lines:
        console.print(f"[bold]{label:<11}[/bold]{line}", highlight=False, soft_wrap=True)


def modalities(data: Mapping[str, Any]) -> dict[str, str]:
    """Return {task: what it reads} for people: ``image+text``."""
    found = {}
    for name, spec in data["tasks"].items():
        read = {m for dataset in task_datasets(spec) for m in data["datasets"][dataset]["inputs"]}
        found[name] = "+".join(sorted(read))
    return found


def table(summary: MergeSummary, scores: Mapping[str, str], reads: Mapping[str, str]) -> Table:
    """Return one line a task: the result, then the models' scores on test.

    Args:
        summary: has the scores.
        scores: {task: its main metric}.
        reads: {task: modalities}.
    """
    found = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("task", "modality", "metric"):
        found.add_column(heading)
    columns = model_columns(summary.parents)
    for heading in ("valid", "test", "baseline", *columns):
        found.add_column(heading, justify="right")
    for task, metric in scores.items():
        own = [numbers.get(task, {}).get(metric) for numbers in (summary.valid, summary.test)]
        own.append(summary.baseline.get(task, {}).get(metric))
        own += model_numbers(summary.parents, task, metric)
        found.add_row(
            task, reads[task], metric, *("-" if one is None else f"{one:.3f}" for one in own)
        )
    return found


def model_columns(parents: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the headings of the models' columns."""
    if len(parents) > MOST_COLUMNS:
        return ["best model", "worst model"]
    return [parent["label"] for parent in parents]


def model_numbers(
    parents: Sequence[Mapping[str, Any]], task: str, metric: str
) -> list[float | None]:
    """Return the models' scores on test, or, of many, the best and the worst."""
    numbers = [parent.get("test", {}).get(task, {}).get(metric) for parent in parents]
    if len(parents) <= MOST_COLUMNS:
        return numbers
    known = [number for number in numbers if number is not None]
    return [max(known, default=None), min(known, default=None)]


COEFFICIENTS = "coefficients.json"


def record_start(
    tracker: RunLogger,
    config: Mapping[str, Any],
    folder: RunFolder,
    datamodule: MixedDataModule | None,
    summary: MergeSummary,
) -> None:
    """Record configuration, models, coefficients and data sets."""
    if datamodule is None:
        tracker.log_params(config)
        tracker.log_artifact(folder.config)
    else:
        record.record_start(tracker, config, folder, datamodule)
    known = {f"parent.{one['label']}": one for one in summary.parents}
    known |= {"base": summary.base} if summary.base else {}
    tags = {
        f"{where}.{key}": one[key]
        for where, one in known.items()
        for key in ("path", "run_id", "checksum")
        if one[key] is not None
    }
    parents = [one["run_id"] or one["path"] for one in summary.parents]
    tracker.set_tags({**tags, "pollinate.parents": parents})
    simple = {
        name: value
        for name, value in summary.coefficients.items()
        if not isinstance(value, Mapping | list)
    }
    tracker.log_params({"coefficients": simple} if simple else {})
    path = folder.path / COEFFICIENTS
    path.write_text(json.dumps(summary.coefficients, indent=2) + "\n", encoding="utf-8")
    tracker.log_artifact(path)


def record_result(
    tracker: RunLogger,
    config: Mapping[str, Any],
    folder: RunFolder,
    evaluator: MergeEvaluator,
    scored: MergeScores | None,
    summary: MergeSummary,
) -> None:
    """Record scores, confusion matrices, the checkpoint and the model."""
    if scored is not None:
        module = evaluator.module
        metrics: dict[str, float] = {}
        for split, numbers in scored.result.items():
            metrics |= stage_metrics(module, split, numbers)
        for parent, own in zip(summary.parents, scored.models, strict=True):
            for split, numbers in own.items():
                named = stage_metrics(module, split, numbers)
                metrics |= {f"parent/{parent['label']}/{name}": v for name, v in named.items()}
        tracker.log_metrics(metrics, step=0)
        folder.plots.mkdir(exist_ok=True)
        for task, matrix in scored.matrices.items():
            path = folder.plots / f"confusion-{task}.png"
            plot_confusion_matrix(matrix.numpy(), module.tasks[task].classes, task, path)
            tracker.log_artifact(path, "plots")
    tracker.log_artifact(folder.checkpoints / BEST, "checkpoints")
    export_model(folder.checkpoints / BEST, folder.model, config["allow_targets"])
    tracker.log_model(folder.model, "model")

"""How a merge ended: the table for people, summary.json for scripts, the tracker's record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

from datamodules.mixed_datamodule import MixedDataModule
from lightning_modules.building import build_tasks, task_datasets
from lightning_modules.checkpoints import BEST
from lightning_modules.evaluation_module import EvaluationModule
from lightning_modules.metrics import stage_metrics
from pipeline.merging.merge_scores import MergeScores
from pipeline.plots.run_plots import draw_confusions
from pipeline.run_folder import RunFolder
from pipeline.run_summary import RunSummary, TaskMetrics, print_result
from pipeline.serving.model_folder import export_model
from pipeline.terminal import new_table, print_labelled
from pipeline.text_format import cell, relpath
from pipeline.tracking.loggers import RunLogger
from pipeline.training_run import record_data
from pollinate.files import write_json
from pollinate.overrides import override
from pollinate.program import shell_command

MOST_COLUMNS = 4  # models with a column of their own
MOST_NUMBERS = 12  # coefficients on one line
COEFFICIENTS = "coefficients.json"


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
    if summary.test or summary.valid:
        console.print(
            scores_table(summary, {**spec["config"], "allow_targets": config["allow_targets"]})
        )
    print_result(console, folder, config["tracking"])
    best = override("checkpoint", relpath(folder.checkpoints / BEST))
    print_labelled(console, [("evaluate", shell_command("evaluate", best, "split=train"))])


def scores_table(summary: MergeSummary, config: Mapping[str, Any]) -> Table:
    """Return one line a task: the result, then the models' test scores, or the best and worst."""
    many = len(summary.parents) > MOST_COLUMNS
    columns = ["best model", "worst model"] if many else [one["label"] for one in summary.parents]
    headings = ("task", "modality", "metric", "valid", "test", "baseline", *columns)
    found = new_table(*headings, numbers=3 + len(columns))
    data = config["data"]
    for name, task in build_tasks(config).items():
        sets = task_datasets(data["tasks"][name])
        reads = "+".join(
            sorted({m for dataset in sets for m in data["datasets"][dataset]["inputs"]})
        )
        models = model_scores(summary.parents, name, task.score)
        if many:
            known = [score for score in models if score is not None]
            models = [max(known, default=None), min(known, default=None)]
        numbers = map(cell, [*summary.numbers(name, task.score)[:3], *models])
        found.add_row(name, reads, task.score, *numbers)
    return found


def model_scores(
    parents: Sequence[Mapping[str, Any]], task: str, metric: str
) -> list[float | None]:
    return [parent.get("test", {}).get(task, {}).get(metric) for parent in parents]


def record_start(
    tracker: RunLogger,
    folder: RunFolder,
    datamodule: MixedDataModule | None,
    summary: MergeSummary,
) -> None:
    if datamodule is not None:
        record_data(tracker, folder, datamodule)
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
    own = summary.coefficients.items()
    simple = {name: value for name, value in own if not isinstance(value, Mapping | list)}
    tracker.log_params({"coefficients": simple} if simple else {})
    write_json(folder.path / COEFFICIENTS, summary.coefficients)
    tracker.log_artifact(folder.path / COEFFICIENTS)


def record_scores(
    tracker: RunLogger,
    folder: RunFolder,
    module: EvaluationModule,
    scored: MergeScores,
    summary: MergeSummary,
) -> None:
    metrics: dict[str, float] = {}
    for split, numbers in scored.result.items():
        metrics |= stage_metrics(module.tasks, split, numbers)
    for parent, own in zip(summary.parents, scored.models, strict=True):
        for split, numbers in own.items():
            named = stage_metrics(module.tasks, split, numbers)
            metrics |= {f"parent/{parent['label']}/{name}": v for name, v in named.items()}
    tracker.log_metrics(metrics, step=0)
    for path in draw_confusions(folder, module, scored.matrices):
        tracker.log_artifact(path, "plots")


def record_model(tracker: RunLogger, folder: RunFolder, allow_targets: Sequence[str]) -> None:
    tracker.log_artifact(folder.checkpoints / BEST, "checkpoints")
    export_model(folder.checkpoints / BEST, folder.model, allow_targets)
    tracker.log_model(folder.model, "model")

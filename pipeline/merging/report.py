"""How a merge ended: the table for people, summary.json for scripts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from shlex import quote
from typing import Any

from rich.console import Console
from rich.table import Table

from pipeline.building.tasks import build_tasks, task_datasets
from pipeline.checkpoints import BEST
from pipeline.merging.scoring import Scored
from pipeline.report import Numbers, Summary, browse, shown
from pipeline.runs import RunFolder

MOST_COLUMNS = 4  # models with a column of their own
MOST_NUMBERS = 12  # coefficients on one line


@dataclass
class MergeSummary(Summary):
    """summary.json of a merge; what isn't said here is as for ``Summary``.

    method: name of its class; coefficients: given, or chosen on validation data.
    parents: label, path, run_id, checksum, tasks, valid and test of each; base: the same, without
        scores, or None.
    """

    method: str = ""
    coefficients: dict[str, Any] = field(default_factory=dict)
    parents: list[dict[str, Any]] = field(default_factory=list)
    base: dict[str, Any] | None = None
    tasks: list[str] = field(default_factory=list)

    def take(self, scored: Scored, baseline: Numbers) -> None:
        """Take over the scores."""
        self.valid, self.test = scored.result["valid"], scored.result["test"]
        self.baseline = baseline
        for parent, own in zip(self.parents, scored.models, strict=True):
            parent |= own


def chosen(coefficients: Mapping[str, Any]) -> Iterator[str]:
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


def print_result(
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
    path = shown(folder.path)
    best = quote(f"checkpoint={path / 'checkpoints' / BEST}")
    lines = [("run folder", str(path))]
    if config["tracking"].get("uri"):
        lines.append(("MLflow", browse(config["tracking"]["uri"])))
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

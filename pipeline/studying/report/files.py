"""Results as JSON and CSV."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from pipeline.studying.answers import Change
from pipeline.studying.report.subject import Subject

RESULTS = (
    "arm", "kind", "seed", "task", "metric", "status", "test", "valid", "labels", "rows_seen",
    "seconds", "parameters", "memory", "run_id", "folder", "message",
)  # fmt: skip
COMPARISONS = (
    "arm", "kind", "task", "metric", "verdict", "difference", "low", "high", "relative",
    "relative_low", "relative_high", "p", "adjusted_p", "seeds",
)  # fmt: skip
DELTA = "delta_m"  # in place of a task: the mean of the relative changes


def as_json(subject: Subject, verdict: Sequence[str]) -> str:
    """Return everything; numbers that aren't finite are null."""
    content = {
        "verdict": list(verdict),
        "results": asdict(subject.results),
        "answers": asdict(subject.answers),
    }
    return json.dumps(finite(content), indent=1, allow_nan=False) + "\n"


def finite(value: Any) -> Any:
    """Copy plain values, None for NaN and infinite."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def results_csv(subject: Subject) -> str:
    """Return a line a trial and task, full precision."""
    return table(RESULTS, result_rows(subject))


def result_rows(subject: Subject) -> Iterator[Sequence[Any]]:
    """Yield the lines of results.csv."""
    for trial in subject.results.trials:
        arm = subject.results.arms[trial.arm]
        for task in arm.tasks:
            yield (
                arm.name, arm.kind, trial.seed, task, subject.results.metrics.get(task),
                trial.status, trial.test.get(task), trial.valid.get(task), trial.labels.get(task),
                trial.rows_seen.get(task), round(trial.seconds, 3), trial.parameters, trial.memory,
                trial.run_id, trial.folder, trial.message,
            )  # fmt: skip


def comparisons_csv(subject: Subject) -> str:
    """Return a line a comparison with a task alone, and one for an arm's delta_m."""
    return table(COMPARISONS, comparison_rows(subject))


def comparison_rows(subject: Subject) -> Iterator[Sequence[Any]]:
    """Yield the lines of comparisons.csv."""
    for name, comparison in subject.answers.comparisons.items():
        kind = subject.results.arms[name].kind
        for task, change in comparison.changes.items():
            yield name, kind, task, subject.results.metrics.get(task), *numbers(change)
        if comparison.delta_m is not None:
            yield name, kind, DELTA, None, *numbers(comparison.delta_m)


def numbers(change: Change) -> Sequence[Any]:
    """Return a change's cells."""
    own, relative = change.difference, change.relative
    of_alone = (None, None, None) if relative is None else (
        relative.mean, relative.low, relative.high,
    )  # fmt: skip
    return (
        change.verdict, own.mean, own.low, own.high, *of_alone, change.p, change.adjusted,
        own.seeds,
    )  # fmt: skip


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return CSV; what isn't known is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()

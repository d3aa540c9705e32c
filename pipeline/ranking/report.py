"""A ranking as plain values: what the JSON, the CSV and MLflow get."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from lightning_modules.transferability.base import Reads
from pipeline.ranking.agreement import Agreement, Column, agreement
from pipeline.ranking.gains import Gains
from pipeline.ranking.rank import Ranking

POOLED = ""  # in place of a task: the pairs of all tasks
COLUMNS = ("task", "source", "score", "rank", "value", "seconds", "rows", "part", "reason", "gain")


@dataclass
class Report:
    """agreements: {score: {task, or ``POOLED``: tau}}; empty without gains."""

    ranking: Ranking
    gains: Gains | None = None
    agreements: dict[str, dict[str, Agreement]] = field(default_factory=dict)


def report_of(ranking: Ranking, gains: Gains | None, seed: int) -> Report:
    """Compare a ranking with measured gains, if there are any."""
    if gains is None:
        return Report(ranking)
    tasks = [task for task in ranking.tasks if gains.values.get(task)]
    found: dict[str, dict[str, Agreement]] = {}
    for score in ranking.scores:
        columns = {task: columns_of(ranking, gains, score, task) for task in tasks}
        found[score] = {task: agreement(own, seed) for task, own in columns.items()}
        together = [column for own in columns.values() for column in own]
        found[score][POOLED] = agreement(together, seed)
    return Report(ranking, gains, found)


def columns_of(ranking: Ranking, gains: Gains, score: str, task: str) -> list[Column]:
    """Return a score and the gains of all sources, NaN for none, once for each kind of source."""
    own = np.array([gains.values[task].get(source, np.nan) for source in ranking.sources])
    found = []
    for kind in ranking.kinds:
        values = ranking.values(task, score, kind)
        found.append((np.array([values.get(source, np.nan) for source in ranking.sources]), own))
    return found


def no_better(report: Report) -> list[str]:
    """Return the scores whose pooled tau isn't above that of the best size-only baseline."""
    pooled = {score: own[POOLED].tau for score, own in report.agreements.items()}
    baselines = {s for s, method in report.ranking.scores.items() if method.reads is Reads.SIZE}
    sizes = [tau for score, tau in pooled.items() if score in baselines and tau is not None]
    if not sizes:
        return []
    return [
        score
        for score, tau in pooled.items()
        if score not in baselines and tau is not None and tau <= max(sizes)
    ]


def ranks(values: Mapping[str, float]) -> dict[str, int]:
    """Return {source: place from 1}, of values that are sorted, best first; ties share one."""
    places: dict[float, int] = {}
    for place, value in enumerate(values.values(), start=1):
        places.setdefault(value, place)
    return {source: places[value] for source, value in values.items()}


def as_json(report: Report) -> str:
    """Return everything as JSON."""
    ranking = report.ranking
    tasks = {}
    for name, task in ranking.tasks.items():
        tasks[name] = {
            "type": task.kind,
            "rows": len(task.rows),
            "best_first": {
                kind: {score: list(ranking.values(name, score, own)) for score in ranking.scores}
                for kind, own in zip(("models", "tasks"), ranking.kinds, strict=True)
            },
            "sources": {
                source: cells(ranking, name, source, kind)
                for kind in ranking.kinds
                for source in kind
            },
        }
    found: dict[str, Any] = {
        "tasks": tasks,
        "seconds": {"features": ranking.seconds, "short_run": ranking.run_seconds},
    }
    if report.gains is not None:
        found["gains"] = report.gains.values
        found["kendall_tau"] = {
            score: {task or "pooled": asdict(one) for task, one in own.items()}
            for score, own in report.agreements.items()
        }
        found["no_better_than_size"] = no_better(report)
    return json.dumps(found, indent=2, ensure_ascii=False) + "\n"


def cells(ranking: Ranking, task: str, source: str, kind: Sequence[str]) -> dict[str, Any]:
    """Return {score: its value, place among its kind, and cost} of one source and task."""
    found = {}
    for score in ranking.scores:
        place = ranks(ranking.values(task, score, kind)).get(source)
        found[score] = {**asdict(ranking.outcomes[task][source][score]), "rank": place}
    return found


def as_csv(report: Report) -> str:
    """Return a line a task, source and score, as a table for other programs."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
    writer.writeheader()
    ranking = report.ranking
    for task in ranking.tasks:
        gains = {} if report.gains is None else report.gains.values.get(task, {})
        for source in ranking.sources:
            own = {"task": task, "source": source, "gain": gains.get(source)}
            kind = next(kind for kind in ranking.kinds if source in kind)
            for score, values in cells(ranking, task, source, kind).items():
                writer.writerow({**own, "score": score, **values})
    return stream.getvalue()


def metrics(report: Report) -> dict[str, float]:
    """Return what MLflow charts: ``rank/<task>/<score>/<source>`` and ``tau/<score>/<task>``."""
    ranking = report.ranking
    found = {
        f"rank/{task}/{score}/{source.strip('/').replace('/', '_')}": value
        for task in ranking.tasks
        for score in ranking.scores
        for source, value in ranking.values(task, score, ranking.sources).items()
    }
    for score, own in report.agreements.items():
        for task, one in own.items():
            if one.tau is not None:
                found[f"tau/{score}/{task or 'pooled'}"] = one.tau
    return found

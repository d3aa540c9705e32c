"""A ranking as JSON, CSV, metrics and text for a terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lightning_modules.transferability.base import EvidenceKind
from pipeline.ranking.measured_gains import MeasuredGains
from pipeline.ranking.rank_agreement import Column, RankAgreement, rank_agreement
from pipeline.ranking.scoring import ITSELF, Ranking
from pipeline.recorded_run import recorded_run
from pipeline.run_folder import RunFolder
from pipeline.terminal import new_table, say
from pipeline.text_format import NOTHING, cell, format_scaled
from pollinate.console import styled
from pollinate.errors import UsageError
from pollinate.files import csv_text, json_text, write_text

POOLED = ""  # in place of a task: the pairs of all tasks
COLUMNS = ("task", "source", "score", "rank", "value", "seconds", "rows", "part", "reason", "gain")


@dataclass
class RankingReport:
    """agreements: {score: {task, or ``POOLED``: tau}}; empty without gains."""

    ranking: Ranking
    gains: MeasuredGains | None = None
    agreements: dict[str, dict[str, RankAgreement]] = field(default_factory=dict)


def ranking_report(ranking: Ranking, gains: MeasuredGains | None, seed: int) -> RankingReport:
    if gains is None:
        return RankingReport(ranking)
    tasks = [task for task in ranking.tasks if gains.values.get(task)]
    found: dict[str, dict[str, RankAgreement]] = {}
    for score in ranking.scores:
        columns = {task: columns_of(ranking, gains, score, task) for task in tasks}
        found[score] = {task: rank_agreement(own, seed) for task, own in columns.items()}
        pooled = [column for own in columns.values() for column in own]
        found[score][POOLED] = rank_agreement(pooled, seed)
    return RankingReport(ranking, gains, found)


def columns_of(ranking: Ranking, gains: MeasuredGains, score: str, task: str) -> list[Column]:
    """Return a score and the gains of all sources, NaN for none, once for each kind of source."""
    own = np.array([gains.values[task].get(source, np.nan) for source in ranking.sources])
    found = []
    for kind in ranking.kinds:
        values = ranking.values(task, score, kind)
        found.append((np.array([values.get(source, np.nan) for source in ranking.sources]), own))
    return found


def no_better(report: RankingReport) -> list[str]:
    """Return the scores whose pooled tau isn't above that of the best size-only baseline."""
    pooled = {score: own[POOLED].tau for score, own in report.agreements.items()}
    baselines = {
        s for s, method in report.ranking.scores.items() if method.reads is EvidenceKind.SIZE
    }
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


def as_json(report: RankingReport) -> str:
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
    return json_text(found) + "\n"


def cells(ranking: Ranking, task: str, source: str, kind: Sequence[str]) -> dict[str, Any]:
    """Return {score: its value, place among its kind, and cost} of one source and task."""
    found = {}
    for score in ranking.scores:
        place = ranks(ranking.values(task, score, kind)).get(source)
        found[score] = {**asdict(ranking.outcomes[task][source][score]), "rank": place}
    return found


def as_csv(report: RankingReport) -> str:
    ranking, rows = report.ranking, []
    for task in ranking.tasks:
        gains = {} if report.gains is None else report.gains.values.get(task, {})
        for kind in ranking.kinds:
            for source in kind:
                own = {"task": task, "source": source, "gain": gains.get(source)}
                for score, values in cells(ranking, task, source, kind).items():
                    row = {**own, "score": score, **values}
                    rows.append([row[column] for column in COLUMNS])
    return csv_text(COLUMNS, rows)


def ranking_metrics(report: RankingReport) -> dict[str, float]:
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


def print_ranking(console: Console, report: RankingReport) -> None:
    ranking = report.ranking
    for task, own in ranking.tasks.items():
        rows = f"{len(own.rows):,} labelled rows"
        console.rule(styled((task, "bold"), f", {own.kind}, {rows}"), align="left")
        for kind in ranking.kinds:
            there = [score for score in ranking.scores if ranking.values(task, score, kind)]
            if there:
                console.print(values_table(report, task, kind, there))
                console.print()
            if there and len(kind) > 1:
                console.print(order_table(ranking, task, kind, there))
                console.print()
    console.print(seconds_table(ranking))
    console.print()
    for line in absences(ranking):
        say(console, line)
    if report.gains is not None:
        title = styled(("Kendall's tau", "bold"), " with the measured gains")
        console.rule(title, align="left")
        console.print(agreement_table(report))
        for line in agreement_notes(report):
            say(console, line)


def values_table(
    report: RankingReport, task: str, sources: Sequence[str], scores: Sequence[str]
) -> Table:
    """Return a line a source: each score's value, the best with a star."""
    ranking = report.ranking
    gains = {} if report.gains is None else report.gains.values.get(task, {})
    measured = ["gain"] if set(gains) & set(sources) else []
    titles = [ranking.scores[score].title for score in scores]
    table = new_table("source", *titles, *measured, numbers=len(titles) + len(measured))
    places = {score: ranks(ranking.values(task, score, sources)) for score in scores}

    def mean_rank(source: str) -> float:
        own = [found[source] for found in places.values() if source in found]
        return sum(own) / len(own) if own else math.inf

    for source in sorted(sources, key=mean_rank):
        cells: list[str | Text] = [
            value_text(ranking.outcomes[task][source][score].value, places[score].get(source))
            for score in scores
        ]
        if measured:
            cells.append(number(gains[source], "+") if source in gains else NOTHING)
        table.add_row(source, *cells)
    return table


def value_text(value: float | None, place: int | None) -> str | Text:
    """Return a value as a cell, in which a space stands where the best has its star."""
    if value is None:
        return f"{NOTHING} "
    return styled((f"{number(value)}*", "bold")) if place == 1 else f"{number(value)} "


def order_table(
    ranking: Ranking, task: str, sources: Sequence[str], scores: Sequence[str]
) -> Table:
    """Return a line a score: the sources, best first."""
    table = new_table("score", "best first", "seconds", numbers=1)
    for score in scores:
        seconds = sum(ranking.outcomes[task][source][score].seconds for source in sources)
        order = in_order(ranking.values(task, score, sources))
        table.add_row(score, order, f"{seconds:.2f}")
    return table


def in_order(values: dict[str, float]) -> str:
    """Return sources, best first: ``a > b = c``."""
    names = list(values)
    text = names[0]
    for previous, name in pairwise(names):
        text += f"{' = ' if values[previous] == values[name] else ' > '}{name}"
    return text


def seconds_table(ranking: Ranking) -> Table:
    """Return a line a source: seconds of its features, and of each score over all tasks."""
    looks = {
        name: score for name, score in ranking.scores.items() if score.reads is not EvidenceKind.RUN
    }
    titles = [score.title for score in looks.values()]
    table = new_table("seconds", "features", *titles, numbers=1 + len(titles))
    for source, seconds in ranking.seconds.items():
        own = [
            sum(ranking.outcomes[task][source][score].seconds for task in ranking.tasks)
            for score in looks
        ]
        table.add_row(source, f"{seconds:.2f}", *(f"{value:.3f}" for value in own))
    for what, value in ranking.run_seconds.items():
        table.add_row(f"tasks: {what}", f"{value:.2f}", *[NOTHING] * len(looks))
    return table


def absences(ranking: Ranking) -> list[str]:
    """Return why there is no value, a line a reason; that of a task to itself goes without."""
    found: dict[str, dict[str, None]] = {}
    for own in ranking.outcomes.values():
        for scores in own.values():
            for score, outcome in scores.items():
                if outcome.reason not in (None, ITSELF):
                    found.setdefault(str(outcome.reason), {})[score] = None
    return [
        f"- no {', '.join(scores) if len(scores) < len(ranking.scores) else 'score'}: {reason}"
        for reason, scores in found.items()
    ]


def agreement_table(report: RankingReport) -> Table:
    """Return a line a score: tau of each task, and of the pairs of all tasks."""
    tasks = [task for task in next(iter(report.agreements.values())) if task != POOLED]
    pooled = ["all tasks", "95 %", "p", "pairs"]
    table = new_table("score", *tasks, *pooled, numbers=len(tasks) + len(pooled))
    for score, own in report.agreements.items():
        whole = own[POOLED]
        interval = NOTHING if whole.low is None else f"{whole.low:+.2f} to {whole.high:+.2f}"
        taus = [cell(own[task].tau, "+.2f") for task in (*tasks, POOLED)]
        table.add_row(score, *taus, interval, cell(whole.p), str(whole.pairs))
    return table


def agreement_notes(report: RankingReport) -> list[str]:
    found = list(report.gains.notes) if report.gains is not None else []
    reasons: dict[str, list[str]] = {}
    for score, own in report.agreements.items():
        reason = own[POOLED].reason
        if reason is not None:
            reasons.setdefault(reason, []).append(score)
    found += [f"no tau of {', '.join(scores)}: {reason}" for reason, scores in reasons.items()]
    weak = no_better(report)
    if weak:
        found.append(f"no better than size alone: {', '.join(weak)}")
    return found


def number(value: float, sign: str = "") -> str:
    """Return a number in three digits: 22.6 M, 0.0743."""
    return format_scaled(value) if abs(value) >= 1000 else f"{value:{sign}.3g}"


WRITERS = {".json": as_json, ".csv": as_csv}
STEM = "ranking"


def save_ranking(config: Mapping[str, Any], folder: RunFolder, report: RankingReport) -> None:
    with recorded_run(config, folder) as tracker:
        tracker.log_metrics(ranking_metrics(report))
        for suffix, write in WRITERS.items():
            path = folder.path / f"{STEM}{suffix}"
            write_text(path, write(report))
            tracker.log_artifact(path)
    if config["output"] is not None:
        output = Path(config["output"])
        write_text(output, WRITERS[output.suffix](report))


def check_output(output: str | None) -> None:
    if output is not None and Path(output).suffix not in WRITERS:
        raise UsageError(f"output must end in {' or '.join(WRITERS)}, got {output}")

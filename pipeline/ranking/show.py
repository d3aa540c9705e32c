"""A ranking as text for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lightning_modules.transferability.base import Reads
from pipeline.inspection.tables import new_table
from pipeline.planning.sizes import scaled
from pipeline.ranking.agreement import Agreement
from pipeline.ranking.evidence import ITSELF
from pipeline.ranking.rank import Ranking
from pipeline.ranking.report import POOLED, Report, no_better, ranks

NOTHING = "-"


def print_report(console: Console, report: Report) -> None:
    """Print two tables a task, one of the time, and one of the agreement with measured gains."""
    ranking = report.ranking
    for task, own in ranking.tasks.items():
        rows = f"{len(own.rows):,} labelled rows"
        console.rule(f"[bold]{escape(task)}[/], {own.kind}, {rows}", align="left")
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
        console.print(line, highlight=False, soft_wrap=True, markup=False)
    if report.gains is not None:
        console.rule("[bold]Kendall's tau[/] with the measured gains", align="left")
        console.print(agreement_table(report))
        for line in notes(report):
            console.print(line, highlight=False, soft_wrap=True, markup=False)


def values_table(report: Report, task: str, sources: Sequence[str], scores: Sequence[str]) -> Table:
    """Return a line a source: each score's value, the best with a star."""
    ranking = report.ranking
    gains = {} if report.gains is None else report.gains.values.get(task, {})
    measured = ["gain"] if set(gains) & set(sources) else []
    titles = [ranking.scores[score].title for score in scores]
    table = new_table("source", *titles, *measured, numbers=len(titles) + len(measured))
    places = {score: ranks(ranking.values(task, score, sources)) for score in scores}
    for source in sorted(sources, key=lambda name: mean_rank(name, places)):
        cells = [
            value_text(ranking.outcomes[task][source][score].value, places[score].get(source))
            for score in scores
        ]
        if measured:
            cells.append(number(gains[source], "+") if source in gains else NOTHING)
        table.add_row(escape(source), *cells)
    return table


def value_text(value: float | None, place: int | None) -> str:
    """Return a value as a cell, in which a space stands where the best has its star."""
    if value is None:
        return f"{NOTHING} "
    return f"[bold]{number(value)}*[/]" if place == 1 else f"{number(value)} "


def mean_rank(source: str, places: Mapping[str, Mapping[str, int]]) -> float:
    """Return a source's mean place over the scores that have it."""
    own = [found[source] for found in places.values() if source in found]
    return sum(own) / len(own) if own else float("inf")


def order_table(
    ranking: Ranking, task: str, sources: Sequence[str], scores: Sequence[str]
) -> Table:
    """Return a line a score: the sources, best first."""
    table = new_table("score", "best first", "seconds", numbers=1)
    for score in scores:
        seconds = sum(ranking.outcomes[task][source][score].seconds for source in sources)
        order = in_order(ranking.values(task, score, sources))
        table.add_row(score, escape(order), f"{seconds:.2f}")
    return table


def in_order(values: dict[str, float]) -> str:
    """Return sources, best first: ``a > b = c``."""
    names = list(values)
    text = names[0]
    for before, name in pairwise(names):
        text += f"{' = ' if values[before] == values[name] else ' > '}{name}"
    return text


def seconds_table(ranking: Ranking) -> Table:
    """Return a line a source: seconds of its features, and of each score over all tasks."""
    looks = {name: score for name, score in ranking.scores.items() if score.reads is not Reads.RUN}
    titles = [score.title for score in looks.values()]
    table = new_table("seconds", "features", *titles, numbers=1 + len(titles))
    for source, seconds in ranking.seconds.items():
        own = [
            sum(ranking.outcomes[task][source][score].seconds for task in ranking.tasks)
            for score in looks
        ]
        table.add_row(escape(source), f"{seconds:.2f}", *(f"{value:.3f}" for value in own))
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


def agreement_table(report: Report) -> Table:
    """Return a line a score: tau of each task, and of the pairs of all tasks."""
    tasks = [task for task in next(iter(report.agreements.values())) if task != POOLED]
    pooled = ["all tasks", "95 %", "p", "pairs"]
    table = new_table("score", *map(escape, tasks), *pooled, numbers=len(tasks) + len(pooled))
    for score, own in report.agreements.items():
        whole = own[POOLED]
        interval = NOTHING if whole.low is None else f"{whole.low:+.2f} to {whole.high:+.2f}"
        p = NOTHING if whole.p is None else f"{whole.p:.3f}"
        cells = [tau_text(own[task]) for task in tasks]
        table.add_row(score, *cells, tau_text(whole), interval, p, str(whole.pairs))
    return table


def tau_text(one: Agreement) -> str:
    """Return tau with its sign."""
    return NOTHING if one.tau is None else f"{one.tau:+.2f}"


def notes(report: Report) -> list[str]:
    """Return what a reader should know of the taus."""
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
    return scaled(value) if abs(value) >= 1000 else f"{value:{sign}.3g}"

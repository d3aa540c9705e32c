"""A study's plan and answers as text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipeline.inspection.tables import new_table
from pipeline.studying.answers import Answers, Change, Estimate
from pipeline.studying.budget import rows_per_step
from pipeline.studying.forecast import duration
from pipeline.studying.plan import Plan
from pipeline.studying.results import Results
from pipeline.studying.trials import Trial

MARKS = {"helped": " [green]+[/]", "hurt": " [red]-[/]", "unclear": ""}


def print_plan(
    console: Console, plan: Plan, trials: Sequence[Trial], others: int, seconds: float | None
) -> None:
    """Print the arms, how many trials are done, and how long the rest may take.

    Args:
        console: where to write.
        plan: of the study.
        trials: all of them.
        others: jobs besides them: searches and predictors.
        seconds: that the rest may take; None: it isn't known.
    """
    table = new_table("arm", "tasks", "steps", "rows a step", "trials", "done", numbers=4)
    for arm in plan.arms.values():
        own = [trial for trial in trials if trial.arm is arm]
        done = sum(trial.is_finished() for trial in own)
        rows = rows_per_step(arm.tasks, plan.facts, plan.budget)
        names = ", ".join(arm.tasks)
        table.add_row(
            escape(arm.name), names, f"{plan.facts.steps:,}", f"{rows:,}", str(len(own)), str(done)
        )
    console.print(table)
    left = sum(not trial.is_finished() for trial in trials)
    more = f" and {others} more of searches and predictors" if others else ""
    about = "how long they take isn't known" if seconds is None else f"about {duration(seconds)}"
    text = f"{left} of {len(trials)} trials{more} left: {about}" if left else "all trials are done"
    console.print(text, highlight=False, soft_wrap=True)
    for note in plan.facts.notes:
        console.print(f"note: {note}", highlight=False, soft_wrap=True, markup=False)


def print_answers(console: Console, results: Results, answers: Answers) -> None:
    """Print the scores of the tasks in the arms with all of them, and delta_m."""
    console.print(answers_table(results, answers))
    for note in dict.fromkeys([*results.notes, *answers.notes]):
        console.print(f"note: {note}", highlight=False, soft_wrap=True, markup=False)


def answers_table(results: Results, answers: Answers) -> Table:
    """Return a line a task, a column an arm; + and - where the tests say so."""
    arms = [
        name
        for name, arm in results.arms.items()
        if arm.kind in ("joint", "variant") and arm.labels == 1 and name in answers.scores
    ]
    table = new_table("task", "score", "alone", *map(escape, arms), numbers=1 + len(arms))
    for task, metric in results.metrics.items():
        alone = answers.scores.get(f"alone:{task}", {}).get(task)
        cells = [
            estimate_text(answers.scores[arm].get(task)) + mark(answers, arm, task) for arm in arms
        ]
        table.add_row(task, metric, estimate_text(alone), *cells)
    compared = [answers.comparisons.get(arm) for arm in arms]
    changes = [None if one is None else one.delta_m for one in compared]
    if any(changes):
        table.add_row("delta_m", "", "", *(relative_text(change) for change in changes))
    return table


def mark(answers: Answers, arm: str, task: str) -> str:
    """Return the sign of a task that was helped or hurt."""
    comparison = answers.comparisons.get(arm)
    change = None if comparison is None else comparison.changes.get(task)
    return "" if change is None else MARKS[change.verdict]


def estimate_text(estimate: Estimate | None) -> str:
    """Return a mean with its interval: ``.974 [.971, .978]``."""
    if estimate is None:
        return "-"
    if estimate.low is None or estimate.high is None:
        return f"{estimate.mean:.3f}"
    return rf"{estimate.mean:.3f} \[{estimate.low:.3f}, {estimate.high:.3f}]"


def relative_text(change: Change | None) -> str:
    """Return a relative change in per cent, with its interval."""
    if change is None or change.relative is None:
        return "-"
    found = change.relative
    if found.low is None or found.high is None:
        return f"{found.mean:+.1%}"
    return rf"{found.mean:+.1%} \[{found.low:+.1%}, {found.high:+.1%}]{MARKS[change.verdict]}"

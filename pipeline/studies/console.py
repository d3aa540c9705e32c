"""What a study shows in a terminal: its plan, progress and results."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pipeline.studies.analysis.estimates import Change, IntervalEstimate, StudyAnalysis
from pipeline.studies.arms import rows_per_step
from pipeline.studies.plan import StudyPlan
from pipeline.studies.results import StudyResults
from pipeline.studies.scheduler import ScheduledJob, remaining_seconds
from pipeline.studies.trials import TrialJob
from pipeline.terminal import new_table, say
from pipeline.text_format import NOTHING, cell, duration
from pollinate.console import styled

EVERY = 0.5  # seconds between two looks at the steps


class StudyProgress:
    """Tells of jobs as they start and end."""

    def __init__(self, console: Console, jobs: int) -> None:
        self.console = console
        self.jobs = jobs
        self._works: Sequence[ScheduledJob] = ()
        self._live: Live | None = None
        self._drawn = 0.0

    def __enter__(self) -> StudyProgress:
        if self.console.is_terminal:
            self._live = Live(console=self.console, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def started(self, work: ScheduledJob) -> None:
        again = f", attempt {work.failures + 1}" if work.failures else ""
        verb = "resumed" if work.resumed else "started"
        if self._live is None:
            say(self.console, f"{verb}: {work.job.title}{again}")

    def lost(self, work: ScheduledJob, message: str) -> None:
        say(self.console, f"lost: {work.job.title}, which goes on elsewhere: {message}")

    def ended(self, work: ScheduledJob) -> None:
        if work.found:
            return
        if work.state == "failed":
            say(self.console, f"failed: {work.job.title}: {work.message}")
            return
        say(self.console, f"done: {work.job.title} in {duration(work.seconds)}{self._rest()}")

    def tick(self, works: Sequence[ScheduledJob]) -> None:
        self._works = works
        now = time.monotonic()
        if self._live is not None and now - self._drawn >= EVERY:
            self._drawn = now
            self._live.update(Group(*self._lines()), refresh=True)

    def _rest(self) -> str:
        counts = Counter(work.state for work in self._works)
        if not counts:
            return ""
        left = sum(counts.values()) - counts["done"] - counts["failed"]
        seconds = remaining_seconds(self._works, self.jobs)
        about = "" if seconds is None or not left else f", about {duration(seconds)}"
        return f" ({counts['done']} done, {counts['failed']} failed, {left} left{about})"

    def _lines(self) -> list[Table | Text]:
        table = Table(box=None, pad_edge=False, show_header=False)
        for work in self._works:
            if work.handle is not None and work.handle.seconds is None:
                table.add_row(work.job.title, "", "waits for a place", "")
            elif work.handle is not None:
                steps, total = work.job.files.step(), max(1, work.job.steps)
                table.add_row(
                    work.job.title,
                    ProgressBar(total=total, completed=min(steps, total), width=24),
                    f"step {steps:,} of {work.job.steps:,}" if work.job.steps else "",
                    duration(work.handle.seconds or 0.0),
                )
            elif work.state == "elsewhere":
                table.add_row(work.job.title, "", "another process is at it", "")
        return [table, Text(self._rest().strip(" ()"), style="bold")]


MARKS = {"helped": (" +", "green"), "hurt": (" -", "red"), "unclear": ("", "")}


def print_plan(
    console: Console,
    plan: StudyPlan,
    trials: Sequence[TrialJob],
    others: int,
    seconds: float | None,
) -> None:
    table = new_table("arm", "tasks", "steps", "rows a step", "trials", "done", numbers=4)
    for arm in plan.arms.values():
        own = [trial for trial in trials if trial.arm is arm]
        done = sum(trial.is_finished() for trial in own)
        rows = rows_per_step(arm.tasks, plan.facts, plan.budget)
        names = ", ".join(arm.tasks)
        table.add_row(
            arm.name, names, f"{plan.facts.steps:,}", f"{rows:,}", str(len(own)), str(done)
        )
    console.print(table)
    left = sum(not trial.is_finished() for trial in trials)
    more = f" and {others} more of searches and predictors" if others else ""
    about = "how long they take isn't known" if seconds is None else f"about {duration(seconds)}"
    text = f"{left} of {len(trials)} trials{more} left: {about}" if left else "all trials are done"
    say(console, text)
    for note in plan.facts.notes:
        say(console, f"note: {note}")


def print_answers(console: Console, results: StudyResults, answers: StudyAnalysis) -> None:
    console.print(answers_table(results, answers))
    for note in dict.fromkeys([*results.notes, *answers.notes]):
        say(console, f"note: {note}")


def answers_table(results: StudyResults, answers: StudyAnalysis) -> Table:
    """Return a line a task, a column an arm; + and - where the tests say so."""
    arms = [
        name
        for name, arm in results.arms.items()
        if arm.kind in ("multi_task", "variant") and arm.labels == 1 and name in answers.scores
    ]
    references = results.references()
    headings = (*references, "single_task", *arms)
    table = new_table("task", "score", *headings, numbers=len(headings))
    for task, metric in results.metrics.items():
        single_task = answers.scores.get(f"single_task:{task}", {}).get(task)
        cells = [
            styled(estimate_text(answers.scores[arm].get(task)), mark(answers, arm, task))
            for arm in arms
        ]
        known = [cell(own.get(task)) for own in references.values()]
        table.add_row(task, metric, *known, estimate_text(single_task), *cells)
    compared = [answers.comparisons.get(arm) for arm in arms]
    changes = [None if one is None else one.delta_m for one in compared]
    if any(changes):
        empty = [""] * (len(references) + 2)
        table.add_row("delta_m", *empty, *(relative_text(change) for change in changes))
    return table


def mark(answers: StudyAnalysis, arm: str, task: str) -> tuple[str, str]:
    """Return a sign and its colour."""
    comparison = answers.comparisons.get(arm)
    change = None if comparison is None else comparison.changes.get(task)
    return MARKS["unclear" if change is None else change.verdict]


def estimate_text(estimate: IntervalEstimate | None) -> str:
    """Return a mean with its interval: ``.974 [.971, .978]``."""
    if estimate is None:
        return NOTHING
    return cell(estimate.mean) + ends(estimate, ".3f")


def ends(estimate: IntervalEstimate, spec: str) -> str:
    if estimate.low is None or estimate.high is None:
        return ""
    return f" [{estimate.low:{spec}}, {estimate.high:{spec}}]"


def relative_text(change: Change | None) -> str | Text:
    if change is None or change.relative is None:
        return NOTHING
    found = change.relative
    return styled(f"{found.mean:+.1%}{ends(found, '+.1%')}", MARKS[change.verdict])

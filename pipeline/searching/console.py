"""What a search shows in a terminal: its plan, the leaders as they come, and the result."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from rich.console import Console

from pipeline.searching.budget import Costs
from pipeline.searching.library import JOINT, LINEAR, alone
from pipeline.searching.outcome import Candidate, Outcome
from pipeline.searching.plan import SearchPlan
from pipeline.searching.trials import TrialJob, rows_share
from pipeline.studies.console import StudyProgress
from pipeline.studies.scheduler import ScheduledJob
from pipeline.terminal import new_table, say
from pipeline.text_format import cell, count, duration, format_scaled

SHOWN = 12  # models in the table
MEAN = "mean"  # of all tasks


def print_plan(console: Console, plan: SearchPlan, costs: Costs, jobs: int, limit: float) -> None:
    """Say what the first stages are, and what they take."""
    whole = costs.seconds(1.0, plan.epochs)
    known = plan.facts.step is not None
    about = f", about {duration(whole)} a run" if known else ""
    say(
        console,
        f"{count(len(plan.tasks), 'task')} on {count(len(plan.facts.rows), 'data set')}, "
        f"{plan.epochs} epochs of {plan.facts.steps_per_epoch} steps{about}; "
        f"{duration(limit)} with {count(jobs, 'run')} at a time",
    )
    if known and len(plan.tasks) > 1:
        alone = sum(
            costs.seconds(rows_share(plan.facts, [task]), plan.epochs) for task in plan.tasks
        )
        say(console, f"each task alone takes about {duration(alone)} in all")


class SearchDisplay(StudyProgress):
    """Tells of trials as they start and end.

    Args:
        console: where to; jobs: runs at a time.
        scores: returns what a trial of that name has reached, {task: score}.
    """

    def __init__(
        self, console: Console, jobs: int, scores: Callable[[str], Mapping[str, float]]
    ) -> None:
        super().__init__(console, jobs)
        self.scores = scores

    def ended(self, work: ScheduledJob) -> None:
        """Say how a trial ended, with its scores."""
        job = work.job
        if work.found:
            return
        if work.state == "failed" or not isinstance(job, TrialJob):
            super().ended(work)
            return
        until = "" if job.until is None else f" for {count(job.until, 'epoch')}"
        scores = self.scores(job.trial.name)
        known = ", ".join(f"{task} {score:.3f}" for task, score in scores.items())
        reached = f": {known}" if known else ""
        say(self.console, f"done: {job.trial.name}{until} in {duration(work.seconds)}{reached}")


def print_leaders(console: Console, outcome: Outcome) -> None:
    """Print the models by their validation scores, and what the returned one does on test rows."""
    rows = [
        Row(
            name,
            outcome.scores[name]["valid"],
            format_scaled(outcome.parameters[name]) if outcome.parameters[name] else "",
            duration(outcome.seconds[name]) if name in outcome.seconds else "",
        )
        for name in leaders(outcome)[:SHOWN]
    ]
    rows += [
        Row(marked(one, outcome), one.valid, format_scaled(one.parameters), "")
        for one in outcome.candidates
    ]
    print_scores(console, "on validation", list(outcome.selections), rows)
    rows = [Row(name, outcome.scores[name]["test"]) for name in baselines(outcome)]
    rows += [Row(marked(one, outcome), one.test) for one in outcome.candidates]
    tested = [task for task in outcome.selections if any(task in row.scores for row in rows)]
    if tested:
        print_scores(console, "on test", tested, rows)
    console.print()


@dataclass(frozen=True)
class Row:
    """A model in a table: scores: {task: score}; costs: weights and training time, for people."""

    name: str
    scores: Mapping[str, float]
    weights: str | None = None
    time: str | None = None

    def cells(self, tasks: Sequence[str]) -> list[str]:
        costs = [cost for cost in (self.weights, self.time) if cost is not None]
        return [self.name, *(cell(self.scores.get(task)) for task in tasks), *costs]

    def mean(self, tasks: Sequence[str]) -> Row:
        """Return the row with the mean score of all tasks, if it has them all."""
        known = [self.scores[task] for task in tasks if task in self.scores]
        whole = {MEAN: fmean(known)} if len(known) == len(tasks) else {}
        return replace(self, scores=whole)


def print_scores(console: Console, heading: str, tasks: Sequence[str], rows: Sequence[Row]) -> None:
    """Print scores, a column for each task, or only their mean where that is too wide."""
    table = [row.cells(tasks) for row in rows]
    columns = [heading, *tasks, *("weights", "trained in")[: len(table[0]) - len(tasks) - 1]]
    width = sum(2 + max(map(len, column)) for column in zip(columns, *table, strict=True))
    if width > console.width and list(tasks) != [MEAN]:
        print_scores(console, heading, [MEAN], [row.mean(tasks) for row in rows])
        return
    found = new_table(*columns, numbers=len(columns) - 1)
    for cells in table:
        found.add_row(*cells)
    console.print()
    console.print(found)


def marked(one: Candidate, outcome: Outcome) -> str:
    """Return a candidate's name, with a star if it is what is returned."""
    return f"{one.name} *" if one is outcome.chosen else one.name


def baselines(outcome: Outcome) -> list[str]:
    """Return the models with which what is returned is compared, of those that were trained."""
    wanted = [LINEAR, JOINT, *(alone(task) for task in outcome.selections)]
    return [name for name in wanted if name in outcome.scores]


def leaders(outcome: Outcome) -> Sequence[str]:
    """Return the models by the mean of what they gain on validation over the worst one."""
    tasks = list(outcome.selections)

    def rank(name: str) -> float:
        own = outcome.scores[name]["valid"]
        floor = {
            task: min(o["valid"][task] for o in outcome.scores.values() if task in o["valid"])
            for task in tasks
        }
        return -sum(own.get(task, floor[task]) - floor[task] for task in tasks)

    return sorted(outcome.scores, key=rank)

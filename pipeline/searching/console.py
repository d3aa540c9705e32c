"""What a search shows in a terminal: its plan, the leaders as they come, and the result."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from pipeline.searching.budget import Costs
from pipeline.searching.clock import Clock
from pipeline.searching.outcome import Outcome
from pipeline.searching.plan import SearchPlan
from pipeline.searching.trials import TrialJob, rows_share
from pipeline.studies.console import StudyProgress
from pipeline.studies.scheduler import ScheduledJob
from pipeline.terminal import new_table, say
from pipeline.text_format import cell, count, duration, format_scaled

SHOWN = 12  # models in the table


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
        alone = sum(costs.seconds(rows_share(plan, [task]), plan.epochs) for task in plan.tasks)
        say(console, f"each task alone takes about {duration(alone)} in all")


class SearchDisplay(StudyProgress):
    """Tells of trials as they start and end, with the time that is left."""

    def __init__(self, console: Console, jobs: int, clock: Clock) -> None:
        super().__init__(console, jobs)
        self.clock = clock

    def ended(self, work: ScheduledJob) -> None:
        """Say how a trial ended, with its scores."""
        if work.found:
            return
        if work.state == "failed" or not isinstance(work.job, TrialJob):
            super().ended(work)
            return
        job = work.job
        until = "" if job.until is None else f" for {count(job.until, 'epoch')}"
        say(self.console, f"done: {job.title}{until} in {duration(work.seconds)}")


def print_leaders(console: Console, outcome: Outcome) -> None:
    """Print what models and what is returned score on validation and test rows."""
    tasks = list(outcome.selections)
    headings = ("model", *(f"{task} valid" for task in tasks), *(f"{task} test" for task in tasks))
    table = new_table(*headings, "weights", "time", numbers=2 * len(tasks) + 2)
    for name in leaders(outcome)[:SHOWN]:
        own = outcome.scores[name]
        table.add_row(
            name,
            *(cell(own["valid"].get(task)) for task in tasks),
            *(cell(own["test"].get(task)) for task in tasks),
            format_scaled(outcome.parameters[name]) if outcome.parameters[name] else "",
            duration(outcome.seconds[name]) if name in outcome.seconds else "",
        )
    for one in outcome.candidates:
        mark = " *" if one is outcome.chosen else ""
        table.add_row(
            f"{one.name}{mark}",
            *(cell(one.valid.get(task)) for task in tasks),
            *(cell(one.test.get(task)) for task in tasks),
            format_scaled(one.parameters),
            f"{one.latency:.1f} ms a row",
        )
    console.print(table)


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

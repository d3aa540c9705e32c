"""Plans of two or three tasks, and what runs them without a command line."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pipeline.configuration.schema import Compared
from pipeline.configuration.schema_check import schema_problems
from pipeline.studying.arms import arms_of
from pipeline.studying.facts import Facts, TaskFacts
from pipeline.studying.job import Job, Setting
from pipeline.studying.plan import Plan
from pipeline.studying.predictors import rank_job
from pipeline.studying.scheduler import Limits, Scheduler, Work
from pipeline.studying.search import searches_of
from pipeline.studying.trials import trials_of

LAUNCHER = f"{sys.executable} {Path(__file__).with_name('stand_in.py')}"
ROOT = Path(__file__).parents[3]


def facts(tasks: Sequence[str] = ("a", "b"), **options: Any) -> Facts:
    """Tasks of a data set of texts each, of which a step has 8 rows."""
    known = {name: TaskFacts([f"of_{name}"], ["text"], "accuracy", True) for name in tasks}
    rows = {f"of_{name}": 8 for name in tasks}
    values: dict[str, Any] = {
        "tasks": known,
        "rows": rows,
        "batch_size": sum(rows.values()),
        "steps_per_epoch": 5,
        "steps": 10,
        "evaluated": dict.fromkeys(rows, 30),
        "learns_tokens": True,
        "start": 1.0,
        "step": 0.1,
    }
    return Facts(**{**values, **options})


def node(**options: Any) -> dict[str, Any]:
    """What a study compares, with the schema's defaults."""
    found = dict(options)
    assert list(schema_problems(Compared, found)) == []
    return found


def plan(
    seeds: Sequence[int] = (0, 1),
    known: Facts | None = None,
    base: Sequence[str] = (),
    **options: Any,
) -> Plan:
    """A plan; default: two tasks alone and jointly, two seeds."""
    study, known = node(**options), known or facts()
    return Plan(
        "study",
        list(seeds),
        [],
        list(base),
        [],
        str(ROOT),
        known,
        arms_of(study, known),
        study["budget"],
        study["search"],
        study["predictors"],
    )


def jobs_of(made: Plan, folder: Path) -> list[Job]:
    """All jobs of a plan, run by the stand-in."""
    setting = Setting(folder, LAUNCHER)
    ranking = rank_job(made, setting)
    jobs: list[Job] = [*searches_of(made, setting), *trials_of(made, setting)]
    return jobs if ranking is None else [*jobs, ranking]


class Silent:
    """Shows nothing, and remembers what ended."""

    def __init__(self) -> None:
        self.ended_titles: list[str] = []

    def started(self, work: Work) -> None:
        """Nothing."""

    def ended(self, work: Work) -> None:
        """Remember it."""
        if not work.found:
            self.ended_titles.append(work.job.title)

    def tick(self, works: Sequence[Work]) -> None:
        """Nothing."""


def run(
    made: Plan,
    folder: Path,
    jobs: int = 2,
    retries: int = 0,
    timeout: float | None = None,
    stopping: Callable[[], bool] = lambda: False,
) -> tuple[Scheduler, bool]:
    """Keep a plan and run it; the scheduler, and whether it was not stopped."""
    made.save(folder)
    limits = Limits(jobs, retries, timeout, folder)
    scheduler = Scheduler(jobs_of(made, folder), limits, Silent(), stopping)
    return scheduler, scheduler.run()

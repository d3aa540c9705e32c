"""Plans of two or three tasks, and what runs them without a command line."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pipeline.configuration.schema import ComparisonConfig, schema_problems
from pipeline.engines.engine import Engine
from pipeline.engines.local import LocalEngine
from pipeline.studies.arms import arms_of
from pipeline.studies.jobs import Job, JobContext
from pipeline.studies.plan import MultiTaskFacts, StudyPlan, TaskFacts
from pipeline.studies.predictors import rank_job
from pipeline.studies.scheduler import Limits, ScheduledJob, Scheduler
from pipeline.studies.search import searches_of
from pipeline.studies.trials import trials_of

# -S: it needs no package, and looking for them takes as long as all it does
LAUNCHER = f"{sys.executable} -S {Path(__file__).with_name('stand_in.py')}"
ROOT = Path(__file__).parents[3]


def facts(tasks: Sequence[str] = ("a", "b"), **options: Any) -> MultiTaskFacts:
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
    return MultiTaskFacts(**{**values, **options})


def node(**options: Any) -> dict[str, Any]:
    """What a study compares, with the schema's defaults."""
    found = dict(options)
    assert list(schema_problems(ComparisonConfig, found)) == []
    return found


def plan(
    seeds: Sequence[int] = (0, 1),
    known: MultiTaskFacts | None = None,
    base: Sequence[str] = (),
    **options: Any,
) -> StudyPlan:
    """A plan; default: two tasks alone and jointly, two seeds."""
    study, known = node(**options), known or facts()
    return StudyPlan(
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


def jobs_of(made: StudyPlan, folder: Path, carried: bool = False) -> list[Job]:
    """All jobs of a plan, run by the stand-in; ``carried``: with its variables in its command."""
    told = [f"{key}={value}" for key, value in os.environ.items() if key.startswith("STAND_IN_")]
    launcher = f"env {shlex.join(told)} {LAUNCHER}" if carried else LAUNCHER
    context = JobContext(folder, launcher)
    ranking = rank_job(made, context)
    jobs: list[Job] = [*searches_of(made, context), *trials_of(made, context)]
    return jobs if ranking is None else [*jobs, ranking]


class Silent:
    """Shows nothing, and remembers what ended."""

    def __init__(self) -> None:
        self.ended_titles: list[str] = []
        self.lost_titles: list[str] = []

    def started(self, work: ScheduledJob) -> None:
        """Nothing."""

    def lost(self, work: ScheduledJob, message: str) -> None:
        """Remember it."""
        self.lost_titles.append(work.job.title)

    def ended(self, work: ScheduledJob) -> None:
        """Remember it."""
        if not work.found:
            self.ended_titles.append(work.job.title)

    def tick(self, works: Sequence[ScheduledJob]) -> None:
        """Nothing."""


def run(
    made: StudyPlan,
    folder: Path,
    jobs: int = 2,
    retries: int = 0,
    timeout: float | None = None,
    stopping: Callable[[], bool] = lambda: False,
    engine: Engine | None = None,
) -> tuple[Scheduler, bool]:
    """Keep a plan and run it; the scheduler, and whether it was not stopped."""
    made.save(folder)
    limits = Limits(jobs, retries, timeout, folder)
    chosen = LocalEngine() if engine is None else engine
    jobs_to_run = jobs_of(made, folder, carried=engine is not None)
    scheduler = Scheduler(jobs_to_run, chosen, limits, Silent(), stopping)
    return scheduler, scheduler.run()

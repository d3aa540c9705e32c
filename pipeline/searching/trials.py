"""A search's trials: as jobs to run, and what is known of them by their folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

from pipeline.searching.plan import SearchPlan, Stage, Trial, trial_files
from pipeline.studies.jobs import FitJob, JobContext
from pipeline.studies.plan import MultiTaskFacts
from pipeline.studies.trial_files import TrialFiles, is_score
from pipeline.tracking.journals import read_points
from pollinate.overrides import override

FORK_MERGE, BRANCHES = "transfer=fork_merge", 2


@dataclass(kw_only=True)
class TrialJob(FitJob):
    """A trial's run up to a pause or to its end.

    until: epochs after which it pauses, None for its end.
    """

    trial: Trial = field(repr=False)
    until: int | None = None

    @property
    def name(self) -> str:
        """Of the run, for MLflow: the search's and the trial's."""
        return f"{self.context.folder.name}-{self.trial.name}"

    def is_finished(self) -> bool:
        """Say whether it has come as far as it is to."""
        return self.files.is_finished() or (
            self.until is not None and paused_after(self.files) >= self.until
        )

    def arguments(self) -> list[str]:
        return [*super().arguments(), override("pause_after", self.until)]

    def resume_arguments(self) -> list[str]:
        return [*super().resume_arguments(), override("pause_after", self.until)]


def paused_after(files: TrialFiles) -> int:
    """Return after how many epochs a run has paused, 0 if it hasn't."""
    found = files.summary().get("paused")
    return found if isinstance(found, int) else 0


def job_of(plan: SearchPlan, context: JobContext, stage: Stage, name: str, cost: float) -> TrialJob:
    """Return what is to run of a trial in a stage.

    Args:
        cost: seconds that it is expected to take.
    """
    trial, until = plan.trials[name], stage.until[name]
    source = [] if trial.source is None else [trial_files(context.folder, trial.source)]
    epochs = trial.epochs if until is None else until
    own = [override("tasks", trial.tasks), *trial.overrides, f"trainer.max_epochs={trial.epochs}"]
    if source:
        own += ["transfer=init", override("transfer.source", source[0].path)]
        own.append(override("transfer.parts", starting_parts(plan, trial)))
    return TrialJob(
        title=f"{name} ({', '.join(trial.tasks)})" if trial.kind == "drawn" else name,
        files=trial_files(context.folder, name),
        context=context,
        needs=[],
        expected=cost,
        steps=steps_of(plan.recipe(trial.recipe).facts, trial, epochs),
        base=plan.recipe(trial.recipe).base,
        own=[*own, f"seed={plan.seed}"],
        trial=trial,
        until=until,
    )


def starting_parts(plan: SearchPlan, trial: Trial) -> list[str]:
    """Return the parts that a trial takes over: the encoders of what it reads, and the trunk."""
    reads = {m for task in trial.tasks for m in plan.facts.tasks[task].modalities}
    return [*(f"encoders.{name}" for name in sorted(reads)), "trunk"]


def work_share(facts: MultiTaskFacts, trial: Trial) -> float:
    """Return the rows that a trial learns from in an epoch as a share of all; of each branch."""
    return rows_share(facts, trial.tasks) * (BRANCHES if FORK_MERGE in trial.overrides else 1)


def merging(facts: MultiTaskFacts, target: str, tasks: Sequence[str], epochs: int) -> Merging:
    """Return how branches are merged for a task, in about the steps of a run without any.

    Each round has an epoch of each branch: of all tasks, and of the target alone.

    Args:
        facts: of the recipe; tasks: that are learnt; epochs: of a run without branches.
    """
    steps = max(1, round(facts.steps_per_epoch * rows_share(facts, tasks)))
    own = [override("transfer.targets", [target]), override("transfer.every_n_steps", steps)]
    return Merging([FORK_MERGE, *own], max(1, round(epochs / BRANCHES)))


@dataclass(frozen=True)
class Merging:
    """overrides: of a run whose branches are merged; rounds: of it, which count as epochs."""

    overrides: list[str]
    rounds: int


def rows_share(facts: MultiTaskFacts, tasks: Sequence[str]) -> float:
    """Return the rows of some tasks' data sets as a share of all rows of a step."""
    rows = facts.rows
    own = sum(rows[name] for name in facts.datasets(tuple(tasks)))
    return own / max(1, sum(rows.values()))


def steps_of(facts: MultiTaskFacts, trial: Trial, epochs: int) -> int:
    """Return about how many steps a trial takes in some epochs; facts: of its recipe."""
    return round(facts.steps_per_epoch * work_share(facts, trial) * epochs)


@dataclass(frozen=True)
class Progress:
    """What a trial has reached.

    scores: {task: score of the best validation so far}; epochs: that were trained.
    status: finished, paused, failed or waiting; message: why it failed.
    """

    scores: Mapping[str, float]
    epochs: int
    status: str
    seconds: float
    message: str | None = None

    def mean(self) -> float | None:
        """Return the mean score of the tasks, None if one has none."""
        return fmean(self.scores.values()) if self.scores else None


def progress_of(plan: SearchPlan, folder: Path, name: str) -> Progress:
    """Read how far a trial has come, and how well."""
    trial, files = plan.trials[name], trial_files(folder, name)
    job = FitJob(title=name, files=files, context=JobContext(folder))
    ledger, summary = job.ledger(), files.summary()
    if summary.get("status") == "finished":
        found = summary.get("valid", {})
        scores = {t: found.get(t, {}).get(plan.facts.tasks[t].metric) for t in trial.tasks}
        known = {task: value for task, value in scores.items() if is_score(value)}
        if len(known) == len(trial.tasks) or (known and trial.kind == "linear"):
            return Progress(known, trial.epochs, "finished", ledger.seconds)
        return Progress({}, trial.epochs, "failed", ledger.seconds, "it has no validation score")
    paused = paused_after(files)
    if paused:
        return Progress(best_so_far(plan, files, trial), paused, "paused", ledger.seconds)
    failed = ledger.status in ("failed", "timeout")
    return Progress({}, 0, "failed" if failed else "waiting", ledger.seconds, ledger.message)


def best_so_far(plan: SearchPlan, files: TrialFiles, trial: Trial) -> dict[str, float]:
    """Return the scores of the validation with the best mean; empty if a task has none."""
    keys = {f"valid/{task}/{plan.facts.tasks[task].metric}": task for task in trial.tasks}
    steps: dict[int, dict[str, float]] = {}
    for point in read_points(files.run.metrics):
        if point.key in keys and is_score(point.value):
            steps.setdefault(point.step, {})[keys[point.key]] = point.value
    whole = [found for found in steps.values() if len(found) == len(keys)]
    return max(whole, key=lambda found: fmean(found.values()), default={})

"""The trials of a plan: as jobs to run, and as results read from the study's folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.engines.process import is_taken
from pipeline.studies.analysis.calibration_changes import SHOWN
from pipeline.studies.jobs import ArmJob, JobContext, arm_options
from pipeline.studies.plan import PLAN, StudyPlan, load_plan, search_files, trial_files
from pipeline.studies.predictors import read_predictors
from pipeline.studies.results import Arm, Scores, StudyResults, TrialResult, TrialStatus
from pipeline.studies.search import VALUES, as_overrides, best_file, trials_each
from pipeline.studies.trial_files import is_score, read_json
from pollinate.errors import PollinateError


class TrialJob(ArmJob):
    """One run of an arm, with the values that the arm's search found best."""

    def prepare(self) -> None:
        super().prepare()
        if self.plan.search and not best_file(self.context.folder, self.arm.name).exists():
            raise PollinateError("all trials of its search have failed")

    def values(self) -> list[str]:
        known = read_json(best_file(self.context.folder, self.arm.name)) or {}
        return as_overrides(known.get(VALUES, {}))


def trials_of(plan: StudyPlan, context: JobContext) -> Iterator[TrialJob]:
    """Yield the trials: all arms of a seed, the longest first, then those of the next.

    Where several run at a time, short ones at the end leave none to run long by itself.
    """
    for seed in plan.seeds:
        trials = [trial_of(plan, context, arm, seed) for arm in plan.arms.values()]
        yield from sorted(trials, key=lambda trial: -(trial.expected or 0.0))


def trial_of(plan: StudyPlan, context: JobContext, arm: Arm, seed: int) -> TrialJob:
    options = arm_options(plan, context, arm, seed, source_seed=seed)
    if plan.search is not None:
        options["needs"].append(search_files(context.folder, arm.name, trials_each(plan) - 1))
    files = trial_files(context.folder, arm.name, seed)
    return TrialJob(title=f"{arm.name}, seed {seed}", files=files, **options)


# of trials without a finished summary
STATUSES: Mapping[str | None, TrialStatus] = {"failed": "failed", "timeout": "timeout"}


def collect(folder: Path, launcher: str = "python") -> StudyResults:
    plan = load_plan(folder)
    if plan is None:
        raise PollinateError(f"{folder} holds no study: there is no {folder / PLAN}")
    context = JobContext(folder, launcher, plan.config_dirs)
    trials = [
        trial_result(plan, trial_of(plan, context, arm, seed), arm, seed)
        for arm in plan.arms.values()
        for seed in plan.seeds
    ]
    scores, seconds = read_predictors(folder, plan)
    return StudyResults(
        plan.name,
        {task: own.metric for task, own in plan.facts.tasks.items()},
        list(plan.seeds),
        dict(plan.arms),
        trials,
        scores,
        seconds,
        study_notes(plan, trials),
    )


def trial_result(plan: StudyPlan, job: TrialJob, arm: Arm, seed: int) -> TrialResult:
    files, ledger = job.files, job.ledger()
    folder = files.path.relative_to(job.context.folder).as_posix()
    trial = TrialResult(arm.name, seed, folder, job.shown(), memory=ledger.memory)
    trial.seconds = round(ledger.seconds, 2)
    summary = files.summary()
    trial.run_id = summary.get("run_id")
    if summary.get("status") != "finished":
        taken = is_taken(files.lock)
        trial.status = "running" if taken else STATUSES.get(ledger.status, "waiting")
        trial.message = ledger.message if trial.status in ("failed", "timeout") else None
        return trial
    trial.status = "finished"
    trial.labels, trial.rows_seen = dict(summary["labels"]), dict(summary["rows_seen"])
    trial.parameters = summary["parameters"]["total"]
    trial.valid = scores_of(summary["valid"], plan, arm)
    tested = scores_of(summary["test"], plan, arm)
    trial.baseline = scores_of(summary.get("baseline", {}), plan, arm)
    trial.linear = scores_of(summary.get("linear", {}), plan, arm)
    trial.calibration = calibration_of(summary.get("calibration", {}), arm)
    trial.test = {
        task: found[task]
        for task in arm.tasks
        if task in (found := tested if plan.facts.tasks[task].tested else trial.valid)
    }
    lacking = [task for task in arm.tasks if task not in trial.test]
    if lacking:
        trial.status = "failed"
        trial.message = (
            f"it finished without a score of {', '.join(lacking)}; {job.files.log} may say why, "
            f"and without {files.path} it is run anew"
        )
    return trial


def scores_of(numbers: Mapping[str, Mapping[str, Any]], plan: StudyPlan, arm: Arm) -> Scores:
    found: dict[str, Any] = {
        task: numbers.get(task, {}).get(plan.facts.tasks[task].metric) for task in arm.tasks
    }
    return {task: float(value) for task, value in found.items() if is_score(value)}


def calibration_of(
    numbers: Mapping[str, Mapping[str, Any]], arm: Arm
) -> dict[str, dict[str, float]]:
    """Return {task: {name: finite number}} of what a run says of its calibration."""
    return {
        task: {name: float(v) for name, v in own.items() if name in SHOWN and is_score(v)}
        for task, own in numbers.items()
        if task in arm.tasks
    }


def study_notes(plan: StudyPlan, trials: list[TrialResult]) -> list[str]:
    found = list(plan.facts.notes)
    if len(plan.seeds) == 1:
        found.append(
            "one seed: differences have no intervals and may be chance; give several: "
            "seeds=[0,1,2,3,4]"
        )
    untested = [task for task, own in plan.facts.tasks.items() if not own.tested]
    if untested:
        found.append(
            f"{', '.join(untested)}: the test rows have no labels, so validation scores stand in; "
            "they chose the weights, too, and flatter all arms alike"
        )
    words = {"failed": "failed", "timeout": "ran out of time"}
    found += [
        f"{trial.arm}, seed {trial.seed}, {words[trial.status]}: {trial.message}"
        for trial in trials
        if trial.status in words
    ]
    left = sum(trial.status in ("waiting", "running") for trial in trials)
    if left:
        found.append(f"{left} of {len(trials)} trials are not finished yet")
    return found

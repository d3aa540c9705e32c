"""Results of a study from its folder alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import PollinateError
from pipeline.studying.job import Setting
from pipeline.studying.lock import is_taken
from pipeline.studying.place import is_score
from pipeline.studying.plan import PLAN, Plan, load_plan
from pipeline.studying.predictors import read_predictors
from pipeline.studying.results import Arm, Results, Scores, Status, Trial
from pipeline.studying.trials import Trial as TrialJob
from pipeline.studying.trials import trial_of

STATUSES: Mapping[str | None, Status] = {"failed": "failed", "timeout": "timeout"}


def collect(folder: Path, launcher: str = "python") -> Results:
    """Return what a study has reached so far.

    Args:
        folder: of the study.
        launcher: that the commands begin with.

    Raises:
        PollinateError: there is no study.
    """
    plan = load_plan(folder)
    if plan is None:
        raise PollinateError(f"{folder} holds no study: there is no {folder / PLAN}")
    setting = Setting(folder, launcher, plan.config_dirs)
    trials = [
        collected(plan, trial_of(plan, setting, arm, seed), arm, seed)
        for arm in plan.arms.values()
        for seed in plan.seeds
    ]
    scores, seconds = read_predictors(folder, plan)
    return Results(
        plan.name,
        {task: own.metric for task, own in plan.facts.tasks.items()},
        list(plan.seeds),
        dict(plan.arms),
        trials,
        scores,
        seconds,
        notes(plan, trials),
    )


def collected(plan: Plan, job: TrialJob, arm: Arm, seed: int) -> Trial:
    """Return what one trial has reached."""
    place, ledger = job.place, job.ledger()
    folder = place.path.relative_to(job.setting.folder).as_posix()
    trial = Trial(arm.name, seed, folder, job.shown(), memory=ledger.memory)
    trial.seconds = round(ledger.seconds, 2)
    summary = place.summary()
    trial.run_id = summary.get("run_id")
    if summary.get("status") != "finished":
        trial.status = status(ledger.status, is_taken(place.lock))
        trial.message = ledger.message if trial.status in ("failed", "timeout") else None
        return trial
    trial.status = "finished"
    trial.labels, trial.rows_seen = dict(summary["labels"]), dict(summary["rows_seen"])
    trial.parameters = summary["parameters"]["total"]
    trial.valid = scores_of(summary["valid"], plan, arm)
    tested = scores_of(summary["test"], plan, arm)
    trial.test = {
        task: found[task]
        for task in arm.tasks
        if task in (found := tested if plan.facts.tasks[task].tested else trial.valid)
    }
    lacking = [task for task in arm.tasks if task not in trial.test]
    if lacking:
        trial.status = "failed"
        trial.message = (
            f"it finished without a score of {', '.join(lacking)}; {job.place.log} may say why, "
            f"and without {place.path} it is run anew"
        )
    return trial


def status(known: str | None, taken: bool) -> Status:
    """Return where a trial without a finished summary stands."""
    return "running" if taken else STATUSES.get(known, "waiting")


def scores_of(numbers: Mapping[str, Mapping[str, Any]], plan: Plan, arm: Arm) -> Scores:
    """Return {task: its score} of those that have one."""
    found: dict[str, Any] = {
        task: numbers.get(task, {}).get(plan.facts.tasks[task].metric) for task in arm.tasks
    }
    return {task: float(value) for task, value in found.items() if is_score(value)}


def notes(plan: Plan, trials: list[Trial]) -> list[str]:
    """Return what a reader should know."""
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

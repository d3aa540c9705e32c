"""From a number back to the commands that made it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from html import escape
from pathlib import Path

from pipeline.report import shown
from pipeline.studying.plan import load_plan
from pipeline.studying.report.origins import origins
from pipeline.studying.report.subject import ORDER, Subject
from pipeline.studying.results import Arm, Trial
from pipeline.tracking.redact import redact_arguments
from pipeline.words import count

STEPS = (
    "A score of an arm is the mean of the test scores of its runs below, one a seed. A change is "
    "that of an arm minus that of the task alone with the same seed; intervals, tests and all "
    "that follows are computed from results.csv without chance.",
    "Each command repeats one run: the same seed on the same versions and data gives the same "
    "scores. Where its folder already holds a run, give another with run_dir=PATH.",
)


def reproduce_html(subject: Subject, folder: Path) -> str:
    """Return commands, versions and data."""
    again = f"python -m pipeline.study {shlex.quote(f'resume={shown(folder.absolute())}')}"
    given = study_command(folder)
    told = "".join(f"<p class='hint'>{step}</p>" for step in STEPS)
    found = origins(subject, folder)
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td class='long'>{escape('; '.join(values))}</td></tr>"
        for name, values in found.items()
    )
    under = (
        f"<h3>Versions and data</h3><div class='scroll'><table>{rows}</table></div>" if rows else ""
    )
    study = (
        "<h3>The whole study</h3>"
        + (f"<p class='hint'>It was begun by</p><pre>{escape(given)}</pre>" if given else "")
        + "<p class='hint'>This goes on with what isn't finished and writes this report anew; "
        f"finished runs aren't run again.</p><pre>{escape(again)}</pre>"
    )
    arms = sorted(subject.results.arms.values(), key=lambda arm: (ORDER[arm.kind], -arm.labels))
    runs = "".join(arm_html(arm, list(trials_of(subject, arm))) for arm in arms)
    return f"{told}{study}{under}<h3>Each run</h3>{runs}"


def study_command(folder: Path) -> str | None:
    """Return the command that began the study, None where its folder doesn't say."""
    plan = load_plan(folder)
    if plan is None:
        return None
    folders = [word for name in plan.config_dirs for word in ("--config-dir", name)]
    return shlex.join(
        ["python", "-m", "pipeline.study", *folders, *redact_arguments(plan.overrides)]
    )


def trials_of(subject: Subject, arm: Arm) -> Iterator[Trial]:
    """Yield an arm's runs in the order of their seeds."""
    own = [trial for trial in subject.results.trials if trial.arm == arm.name]
    yield from sorted(own, key=lambda trial: trial.seed)


def arm_html(arm: Arm, trials: list[Trial]) -> str:
    """Return an arm's commands."""
    runs = "".join(
        f"<p class='hint'>seed {trial.seed}, {trial.status}, {escape(trial.folder)}"
        f"{f', MLflow run {escape(trial.run_id)}' if trial.run_id else ''}</p>"
        f"<pre>{escape(shlex.join(trial.command))}</pre>"
        for trial in trials
    )
    return (
        f"<details><summary><b>{escape(arm.name)}</b> ({count(len(trials), 'run')})</summary>"
        f"{runs}</details>"
    )

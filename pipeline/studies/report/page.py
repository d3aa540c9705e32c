"""The report: one HTML file that needs nothing else, with the commands that reproduce it."""

from __future__ import annotations

import itertools
import platform
import shlex
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from pipeline.pages import render
from pipeline.studies.plan import load_plan, study_resume_command
from pipeline.studies.report.charts.panel import COLOURS, Chart, svg
from pipeline.studies.report.report_data import ORDER, ReportSubject
from pipeline.studies.report.report_tables import tables
from pipeline.text_format import count, duration
from pipeline.tracking.journals import read_lines
from pipeline.tracking.redact import redact_arguments, redact_text
from pipeline.tracking.sender import OPERATIONS
from pollinate.program import shell_command
from pollinate.version import VERSION

VERSION_TAG = "version."
COMMIT, DIRTY = "mlflow.source.git.commit", "mlflow.source.git.dirty"


def report_page(
    subject: ReportSubject, lines: Sequence[str], charts: Sequence[Chart], folder: Path
) -> str:
    """Return the whole page."""
    results = subject.results
    notes = list(dict.fromkeys([*results.notes, *subject.answers.notes]))
    facts = {
        "tasks": len(subject.tasks),
        "arms compared": len(results.arms),
        "seeds": len(results.seeds),
        "runs finished": f"{subject.status['finished']} of {len(results.trials)}",
        "training time of all": duration(sum(trial.seconds for trial in results.trials)),
    }
    if subject.lost:
        facts["runs failed"] = len(subject.lost)
    numbers = itertools.count()
    arms = []
    for arm in sorted(results.arms.values(), key=lambda arm: (ORDER[arm.kind], -arm.labels)):
        own = sorted((t for t in results.trials if t.arm == arm.name), key=lambda t: t.seed)
        runs = [(trial, shlex.join(trial.command)) for trial in own]
        arms.append((arm, count(len(own), "run"), runs))
    return render(
        "study.html",
        name=results.name,
        lines=lines,
        facts=facts,
        notes=notes,
        noted=count(len(notes), "note"),
        charts=[(c, [(p.title, svg(p, next(numbers))) for p in c.panels]) for c in charts],
        colours=COLOURS,
        tables=list(tables(subject)),
        begun=study_command(folder),
        again=study_resume_command(folder.absolute()),
        origins=[(name, "; ".join(own)) for name, own in origins(subject, folder).items()],
        arms=arms,
    )


def origins(subject: ReportSubject, folder: Path) -> dict[str, list[str]]:
    """Return {what: values} that the trials have noted; several where they differ."""
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for trial in subject.results.trials:
        for record, _ in read_lines(folder / trial.folder / OPERATIONS):
            if record.get("op") == "tags":
                for name, value in versions(record.get("tags", {})).items():
                    found[name][redact_text(str(value))] = None
            if record.get("op") == "dataset":
                source = redact_text(str(record.get("source", "")))
                found[f"data: {record.get('name')}"][f"{record.get('digest')} ({source})"] = None
    if not found:  # the runs weren't tracked
        found["python"][platform.python_version()] = None
        found["pollinate"][VERSION] = None
    return {name: list(values) for name, values in sorted(found.items())}


def versions(tags: dict[str, str]) -> dict[str, str]:
    own = {k.removeprefix(VERSION_TAG): v for k, v in tags.items() if k.startswith(VERSION_TAG)}
    if COMMIT in tags:
        own["commit"] = tags[COMMIT] + (" with changes" if tags.get(DIRTY) == "True" else "")
    return own


def study_command(folder: Path) -> str | None:
    plan = load_plan(folder)
    if plan is None:
        return None
    folders = [word for name in plan.config_dirs for word in ("--config-dir", name)]
    return shell_command("study", *folders, *redact_arguments(plan.overrides))

"""Write a study's report: the page, JSON, CSV and figures, without secrets."""

from __future__ import annotations

import itertools
import platform
import shlex
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from pipeline.crash_report import keep_evidence, one_line
from pipeline.pages import render
from pipeline.studies.analysis.estimates import StudyAnalysis
from pipeline.studies.overrides import told_again
from pipeline.studies.plan import load_plan, study_resume_command
from pipeline.studies.report.charts.change_bars import change_chart
from pipeline.studies.report.charts.label_curves import label_chart
from pipeline.studies.report.charts.panel import COLOURS, Chart, svg, write_png
from pipeline.studies.report.charts.pareto_front import pareto_chart
from pipeline.studies.report.charts.step_curves import cosine_chart, histories, learning_chart
from pipeline.studies.report.charts.transfer_matrix import transfer_chart
from pipeline.studies.report.report_data import ORDER, ReportSubject
from pipeline.studies.report.report_tables import tables
from pipeline.studies.report.verdict import verdict
from pipeline.studies.results import StudyResults
from pipeline.text_format import count, duration
from pipeline.tracking.journals import read_records
from pipeline.tracking.redact import redact_arguments, redact_text
from pipeline.tracking.sender import OPERATIONS
from pollinate.files import csv_text, json_text, replacing, write_text
from pollinate.program import shell_command
from pollinate.version import VERSION


def redacted_results(results: StudyResults) -> StudyResults:
    arms = {
        name: replace(arm, overrides=tuple(redact_arguments(arm.overrides)))
        for name, arm in results.arms.items()
    }
    trials = [
        replace(
            trial,
            command=redact_arguments(trial.command),
            message=None if trial.message is None else redact_text(trial.message),
        )
        for trial in results.trials
    ]
    return replace(results, arms=arms, trials=trials, notes=[*map(redact_text, results.notes)])


RESULT_COLUMNS = (
    "arm", "kind", "seed", "task", "metric", "status", "test", "valid", "labels", "rows_seen",
    "seconds", "parameters", "memory", "run_id", "folder", "message",
)  # fmt: skip
COMPARISON_COLUMNS = (
    "arm", "kind", "task", "metric", "verdict", "difference", "low", "high", "relative",
    "relative_low", "relative_high", "p", "adjusted_p", "seeds",
)  # fmt: skip
DELTA = "delta_m"  # in place of a task: the mean of the relative changes


def as_json(subject: ReportSubject, verdict: Sequence[str]) -> str:
    """Return everything; numbers that aren't finite are null."""
    content = {
        "verdict": list(verdict),
        "results": asdict(subject.results),
        "answers": asdict(subject.answers),
    }
    return json_text(content, indent=1) + "\n"


def results_csv(subject: ReportSubject) -> str:
    return csv_text(RESULT_COLUMNS, (
        (
            arm.name, arm.kind, trial.seed, task, subject.results.metrics.get(task),
            trial.status, trial.test.get(task), trial.valid.get(task), trial.labels.get(task),
            trial.rows_seen.get(task), round(trial.seconds, 3), trial.parameters, trial.memory,
            trial.run_id, trial.folder, trial.message,
        )
        for trial in subject.results.trials
        for arm in [subject.results.arms[trial.arm]]
        for task in arm.tasks
    ))  # fmt: skip


def comparisons_csv(subject: ReportSubject) -> str:
    rows: list[Sequence[Any]] = []
    for name, comparison in subject.answers.comparisons.items():
        whole = {} if comparison.delta_m is None else {DELTA: comparison.delta_m}
        for task, change in {**comparison.changes, **whole}.items():
            own, relative = change.difference, change.relative
            metric = subject.results.metrics.get(task)
            rows.append((
                name, subject.results.arms[name].kind, task, metric, change.verdict,
                own.mean, own.low, own.high,
                *((relative.mean, relative.low, relative.high) if relative else (None,) * 3),
                change.p, change.adjusted, own.seeds,
            ))  # fmt: skip
    return csv_text(COMPARISON_COLUMNS, rows)


def all_charts(subject: ReportSubject, folder: Path, problems: list[str]) -> list[Chart]:
    """Draw what there is to draw; a chart that fails is a line among the problems."""
    every: dict[str, Callable[[], Chart | None]] = {
        "changes": lambda: change_chart(subject),
        "transfer": lambda: transfer_chart(subject),
        "the Pareto front": lambda: pareto_chart(subject),
        "label fractions": lambda: label_chart(subject),
        "learning curves": lambda: learning_chart(subject, histories(subject, folder)),
        "cosines": lambda: cosine_chart(subject, histories(subject, folder)),
    }
    drawn = []
    for name, draw in every.items():
        with chart_costs_only_itself(name, folder, problems):
            drawn.append(draw())
    return [chart for chart in drawn if chart is not None]


@contextmanager
def chart_costs_only_itself(name: str, folder: Path, problems: list[str]) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # noqa: BLE001  # the scores are complete, whatever it is
        keep_evidence(error, {}, folder)
        line = redact_text(f"the chart of {name} couldn't be drawn: {one_line(error)}")
        if line not in problems:
            problems.append(line)


VERSION_TAG = "version."
COMMIT, DIRTY = "mlflow.source.git.commit", "mlflow.source.git.dirty"


def report_page(
    subject: ReportSubject,
    lines: Sequence[str],
    charts: Sequence[Chart],
    problems: Sequence[str],
    folder: Path,
) -> str:
    """Return the whole page."""
    results = subject.results
    notes = list(dict.fromkeys([*results.notes, *subject.answers.notes, *problems]))
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
        kind="Study",
        name=results.name,
        lines=lines,
        facts=facts,
        notes=notes,
        noted=count(len(notes), "note"),
        charts=[(c, [(p.title, svg(p, next(numbers))) for p in c.panels]) for c in charts],
        colours=COLOURS,
        tables=list(tables(subject)),
        begun=study_command(folder),
        again=study_resume_command(folder.absolute(), own_words(folder)),
        origins=[(name, "; ".join(own)) for name, own in origins(subject, folder).items()],
        arms=arms,
    )


def own_words(folder: Path) -> list[str]:
    """Return what the command line of a resume must say again."""
    plan = load_plan(folder)
    return [] if plan is None else told_again(plan.overrides, plan.config_dirs)


def origins(subject: ReportSubject, folder: Path) -> dict[str, list[str]]:
    """Return {what: values} that the trials have noted; several where they differ."""
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for trial in subject.results.trials:
        for record, _ in read_records(folder / trial.folder / OPERATIONS):
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


PAGE, JSON, RESULTS, COMPARISONS = "report.html", "results.json", "results.csv", "comparisons.csv"
FIGURES = "figures"


def write_report(
    results: StudyResults, answers: StudyAnalysis, folder: Path, problems: list[str] | None = None
) -> list[Path]:
    """Write report.html, results.json, results.csv, comparisons.csv and figures/*.png.

    Each file is whole or not there, and replaces that of an earlier report. The numbers are written
    first, and a chart that can't be drawn costs only itself.

    Args:
        results: of the study's trials.
        answers: what they say.
        folder: of the study.
        problems: gets a line for each chart that couldn't be drawn; the page has them, too.

    Returns:
        The files, the page first.
    """
    subject = ReportSubject(redacted_results(results), answers)
    lines = verdict(subject.results, answers)
    problems = [] if problems is None else problems
    numbers = {
        JSON: as_json(subject, lines),
        RESULTS: results_csv(subject),
        COMPARISONS: comparisons_csv(subject),
    }
    for name, text in numbers.items():
        write_text(folder / name, text)
    drawn = all_charts(subject, folder, problems)
    figures = []
    for chart in drawn:
        path = folder / FIGURES / f"{chart.name}.png"
        with chart_costs_only_itself(chart.name, folder, problems):
            with replacing(path) as temporary:
                write_png(chart, temporary)
            figures.append(path)
    write_text(folder / PAGE, report_page(subject, lines, drawn, problems, folder))
    return [*(folder / name for name in (PAGE, *numbers)), *figures]

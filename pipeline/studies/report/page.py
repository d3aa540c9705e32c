"""The report: one HTML file that needs nothing else, with the commands that reproduce it."""

from __future__ import annotations

import itertools
import platform
import re
import shlex
from collections import defaultdict
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from pipeline.pages.document import document
from pipeline.studies.plan import load_plan
from pipeline.studies.report.charts.panel import COLOURS, Chart, svg
from pipeline.studies.report.report_data import ORDER, ReportSubject, duration
from pipeline.studies.report.report_tables import ReportTable, tables
from pipeline.studies.results import Arm, TrialResult
from pipeline.text_format import count, relpath
from pipeline.tracking.journals import read_lines
from pipeline.tracking.redact import redact_arguments, redact_text
from pipeline.tracking.sender import OPERATIONS
from pollinate.version import VERSION as VERSION_NUMBER

VERSION = "version."
COMMIT, DIRTY = "mlflow.source.git.commit", "mlflow.source.git.dirty"


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
        found["pollinate"][VERSION_NUMBER] = None
    return {name: list(values) for name, values in sorted(found.items())}


def versions(tags: dict[str, str]) -> dict[str, str]:
    """Return versions and commit among a run's tags."""
    named = {key.removeprefix(VERSION): tags[key] for key in tags if key.startswith(VERSION)}
    if COMMIT in tags:
        changed = " with changes" if tags.get(DIRTY) == "True" else ""
        named["commit"] = f"{tags[COMMIT]}{changed}"
    return named


STEPS = (
    "A score of an arm is the mean of the test scores of its runs below, one a seed. A change is "
    "that of an arm minus that of the single-task run with the same seed; intervals, tests and all "
    "that follows are computed from results.csv without chance.",
    "Each command repeats one run: the same seed on the same versions and data gives the same "
    "scores. Where its folder already holds a run, give another with run_dir=PATH.",
)


def reproduce_html(subject: ReportSubject, folder: Path) -> str:
    """Return commands, versions and data."""
    again = f"python -m pipeline.study {shlex.quote(f'resume={relpath(folder.absolute())}')}"
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
    runs = "".join(arm_html(arm, list(arm_trials(subject, arm))) for arm in arms)
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


def arm_trials(subject: ReportSubject, arm: Arm) -> Iterator[TrialResult]:
    """Yield an arm's runs in the order of their seeds."""
    own = [trial for trial in subject.results.trials if trial.arm == arm.name]
    yield from sorted(own, key=lambda trial: trial.seed)


def arm_html(arm: Arm, trials: list[TrialResult]) -> str:
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


STYLE = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
CODE = re.compile(r"`([^`]*)`")
MARKED = {"helped", "hurt", "unclear", "failed", "timeout", "waiting", "strong"}
SHOWN = 3  # notes that are open at once
LONG = 40  # characters of a cell that may be broken into lines


def report_page(
    subject: ReportSubject, lines: Sequence[str], charts: Sequence[Chart], folder: Path
) -> str:
    """Return the whole page.

    Args:
        subject: the study, without secrets.
        lines: the verdict, the most important first; names stand in backticks.
        charts: that the study has something for.
        folder: of the study.
    """
    name = subject.results.name
    parts = [
        f"<header><small>Study</small><h1>{escape(name)}</h1>",
        f"<p class='verdict'>{words_html(lines[0])}</p></header>",
        "<ul class='findings'>",
        *(f"<li>{words_html(line)}</li>" for line in lines[1:]),
        "</ul>",
        facts_html(subject),
        notes_html(subject),
        "<nav><a href='#plots'>Plots</a><a href='#tables'>Tables</a>"
        "<a href='#reproduce'>How to reproduce each number</a></nav>",
        "<h2 id='plots'>Plots</h2>",
        *charts_html(charts),
        "<h2 id='tables'>Tables</h2>",
        *map(table_html, tables(subject)),
        "<h2 id='reproduce'>How to reproduce each number</h2>",
        reproduce_html(subject, folder),
    ]
    return document(f"{name}: did sharing help?", STYLE, parts)


def words_html(text: str) -> str:
    """Return a sentence as HTML, names in backticks as code."""
    return CODE.sub(r"<code>\1</code>", escape(text))


def notes_html(subject: ReportSubject) -> str:
    """Return what a reader should know."""
    notes = dict.fromkeys([*subject.results.notes, *subject.answers.notes])
    told = "".join(f"<li>{words_html(note)}</li>" for note in notes)
    shown = " open" if len(notes) <= SHOWN else ""
    head = f"<summary>{count(len(notes), 'note')} on what was left out</summary>"
    return f"<details class='notes'{shown}>{head}<ul>{told}</ul></details>" if told else ""


def facts_html(subject: ReportSubject) -> str:
    """Return the study's size in a line."""
    trials = subject.results.trials
    facts = {
        "tasks": f"{len(subject.tasks)}",
        "arms compared": f"{len(subject.results.arms)}",
        "seeds": f"{len(subject.results.seeds)}",
        "runs finished": f"{subject.status['finished']} of {len(trials)}",
        "training time of all": duration(sum(trial.seconds for trial in trials)),
    }
    if subject.lost:
        facts["runs failed"] = str(len(subject.lost))
    cells = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts.items())
    return f"<dl class='facts'>{cells}</dl>"


def charts_html(charts: Sequence[Chart]) -> Iterator[str]:
    """Yield each chart: title, caption, key, panels."""
    numbers = itertools.count()
    for chart in charts:
        key = "".join(
            f"<span><i style='background:{COLOURS.get(colour, colour)}'></i>{escape(name)}</span>"
            for name, colour in chart.key.items()
        )
        yield (
            f"<section class='chart' id='{chart.name}'><h3>{escape(chart.title)}</h3>"
            f"<p class='caption'>{words_html(chart.caption)}</p>"
            + (f"<div class='key'>{key}</div>" if key else "")
            + "<div class='panels'>"
        )
        for panel in chart.panels:
            yield (
                f"<figure class='panel'><figcaption>{escape(panel.title)}</figcaption>"
                f"{svg(panel, next(numbers))}</figure>"
            )
        yield "</div></section>"
    if not charts:
        yield "<p class='caption'>Nothing to draw yet.</p>"


def table_html(table: ReportTable) -> str:
    """Return a table that scrolls by itself where it is wider than the screen."""
    first = len(table.headings) - table.numbers

    def cell(tag: str, place: int, text: str) -> str:
        names = ["n"] if place >= first else []
        names += [text] if text in MARKED and 0 < place < first and tag == "td" else []
        names += ["long"] if len(text) > LONG and place < first else []
        kinds = f" class='{' '.join(names)}'" if names else ""
        return f"<{tag}{kinds}>{escape(text)}</{tag}>"

    def row(tag: str, cells: Sequence[str]) -> str:
        return f"<tr>{''.join(cell(tag, place, text) for place, text in enumerate(cells))}</tr>"

    body = "".join(row("td", cells) for cells in table.rows)
    note = f"<p class='caption'>{escape(table.note)}</p>" if table.note else ""
    return (
        f"<h3>{escape(table.title)}</h3>{note}<div class='scroll'><table>"
        f"<thead>{row('th', table.headings)}</thead><tbody>{body}</tbody></table></div>"
    )

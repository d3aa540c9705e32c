"""The report: one HTML file that needs nothing else."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from pipeline.pages.document import document
from pipeline.studying.report.charts.panel import Chart
from pipeline.studying.report.charts.svg import COLOURS, svg
from pipeline.studying.report.reproduce import reproduce_html
from pipeline.studying.report.subject import Subject
from pipeline.studying.report.tables import Table, tables
from pipeline.studying.report.units import duration
from pipeline.words import count

STYLE = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
CODE = re.compile(r"`([^`]*)`")
MARKED = {"helped", "hurt", "unclear", "failed", "timeout", "waiting", "strong"}
SHOWN = 3  # notes that are open at once
LONG = 40  # characters of a cell that may be broken into lines


def page(subject: Subject, lines: Sequence[str], charts: Sequence[Chart], folder: Path) -> str:
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


def notes_html(subject: Subject) -> str:
    """Return what a reader should know."""
    notes = dict.fromkeys([*subject.results.notes, *subject.answers.notes])
    told = "".join(f"<li>{words_html(note)}</li>" for note in notes)
    shown = " open" if len(notes) <= SHOWN else ""
    head = f"<summary>{count(len(notes), 'note')} on what was left out</summary>"
    return f"<details class='notes'{shown}>{head}<ul>{told}</ul></details>" if told else ""


def facts_html(subject: Subject) -> str:
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


def table_html(table: Table) -> str:
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

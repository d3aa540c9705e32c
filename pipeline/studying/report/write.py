"""Write a study's report."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.studying.answers import Answers
from pipeline.studying.report.charts.all import charts
from pipeline.studying.report.charts.panel import write_png
from pipeline.studying.report.files import as_json, comparisons_csv, results_csv
from pipeline.studying.report.page import page
from pipeline.studying.report.safe import safe
from pipeline.studying.report.subject import Subject
from pipeline.studying.report.verdict import verdict
from pipeline.studying.results import Results

PAGE, JSON, RESULTS, COMPARISONS = "report.html", "results.json", "results.csv", "comparisons.csv"
FIGURES = "figures"


def write_report(results: Results, answers: Answers, folder: Path) -> list[Path]:
    """Write report.html, results.json, results.csv, comparisons.csv and figures/*.png.

    Each file is whole or not there, and replaces that of an earlier report.

    Args:
        results: of the study so far; passwords in commands and messages are hidden.
        answers: to them.
        folder: of the study, to which the trials' folders are relative; gets the files.

    Returns:
        The files, the page first.
    """
    subject = Subject(safe(results), answers)
    lines = verdict(subject.results, answers)
    drawn = charts(subject, folder)
    texts: dict[str, Callable[[], str]] = {
        PAGE: lambda: page(subject, lines, drawn, folder),
        JSON: lambda: as_json(subject, lines),
        RESULTS: lambda: results_csv(subject),
        COMPARISONS: lambda: comparisons_csv(subject),
    }
    (folder / FIGURES).mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        with replacing(folder / name) as temporary:
            temporary.write_text(text(), encoding="utf-8")
    figures = [folder / FIGURES / f"{chart.name}.png" for chart in drawn]
    for chart, path in zip(drawn, figures, strict=True):
        with replacing(path) as temporary:
            write_png(chart, temporary)
    return [*(folder / name for name in texts), *figures]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path beside the target, which takes its place when all is written."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)

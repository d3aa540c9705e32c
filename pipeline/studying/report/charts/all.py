"""The charts that a study has something for."""

from __future__ import annotations

from pathlib import Path

from pipeline.studying.report.charts.changes import changes
from pipeline.studying.report.charts.curves import cosines, learning
from pipeline.studying.report.charts.labels import labels
from pipeline.studying.report.charts.panel import Chart
from pipeline.studying.report.charts.pareto import pareto
from pipeline.studying.report.charts.transfers import transfers
from pipeline.studying.report.histories import histories
from pipeline.studying.report.subject import Subject


def charts(subject: Subject, folder: Path) -> list[Chart]:
    """Return the charts in the order in which they are shown.

    Args:
        subject: the study.
        folder: of the study, in which the trials' histories are.
    """
    found = histories(subject, folder)
    every = (
        changes(subject),
        transfers(subject),
        pareto(subject),
        labels(subject),
        learning(subject, found),
        cosines(subject, found),
    )
    return [chart for chart in every if chart is not None]

"""Findings as text for a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipeline.inspection.data_checks import ERROR, NOTE, WARNING, data_verdict
from pipeline.inspection.data_statistics import TaskStatistics
from pipeline.inspection.inspection_run import InspectionFindings

COLOURS = {ERROR: "red", WARNING: "yellow", NOTE: "cyan"}
SPLITS = ("train", "valid", "test")
LISTED = 3  # places of a problem
PIXELS, MOST_CLASSES = "pixels", 40  # classes of pixels that are listed


def print_findings(console: Console, found: InspectionFindings) -> None:
    """Print tables of data sets, inputs and tasks, and the problems."""
    tables = (datasets_table(found), inputs_table(found), tasks_table(found), pixels_table(found))
    for table in tables:
        if table.row_count:
            console.print(table)
            console.print()
    for problem in found.problems:
        colour = COLOURS[problem.severity]
        count = f"{problem.count:,} " if problem.count else ""
        console.print(
            f"[bold {colour}]{problem.severity}[/] [bold]{escape(problem.where)}[/]: "
            f"{count}{escape(problem.what)}; {escape(problem.advice)}",
            highlight=False,
            soft_wrap=True,
        )
        for place in problem.places[:LISTED]:
            console.print(f"  {place}", highlight=False, soft_wrap=True, markup=False)
        if len(problem.places) > LISTED:
            console.print("  ...")
    console.print(f"[bold]{data_verdict(found.problems)}[/]", highlight=False)


def new_table(*headings: str, numbers: int) -> Table:
    """Return a table whose last columns hold numbers."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for place, heading in enumerate(headings):
        right = place >= len(headings) - numbers
        table.add_column(heading, justify="right" if right else "left", overflow="fold")
    return table


def datasets_table(found: InspectionFindings) -> Table:
    """Return a line a data set: rows of each split."""
    table = new_table("data set", "inputs", *SPLITS, numbers=3)
    for name, facts in found.facts.items():
        rows = [f"{facts.rows[split]:,}" for split in SPLITS]
        table.add_row(escape(name), "+".join(facts.inputs), *rows)
    return table


def inputs_table(found: InspectionFindings) -> Table:
    """Return a line a figure of each input."""
    table = new_table("data set", "figure", "min / 5 % / middle / 95 % / max", numbers=1)
    for name, facts in found.facts.items():
        for modality, own in facts.inputs.items():
            for figure, value in own.figures.items():
                table.add_row(escape(name), f"{modality} {figure}", value)
        for task, labels in facts.tasks.items():
            for figure, value in labels.figures.items():
                table.add_row(escape(name), f"{escape(task)} {figure}", value)
    return table


def tasks_table(found: InspectionFindings) -> Table:
    """Return a line a task and data set: labelled rows, classes, imbalance."""
    table = new_table("task", "data set", "type", "labelled", "classes", "imbalance", numbers=3)
    for name, facts in found.facts.items():
        for task, own in facts.tasks.items():
            table.add_row(escape(task), escape(name), own.kind, *task_cells(own, facts.rows))
    return table


def pixels_table(found: InspectionFindings) -> Table:
    """Return a line a class of pixels: its share of each split's labelled pixels."""
    table = new_table("task", "data set", "share of pixels", *SPLITS, numbers=3)
    for name, facts in found.facts.items():
        for task, own in facts.tasks.items():
            for label in own.classes[:MOST_CLASSES] if own.unit == PIXELS else ():
                shares = [own.labels[s][label] / max(1, own.labels[s].total()) for s in SPLITS]
                cells = [f"{share:.2%}" for share in shares]
                table.add_row(escape(task), escape(name), escape(label), *cells)
    return table


def task_cells(facts: TaskStatistics, rows: dict[str, int]) -> tuple[str, str, str]:
    """Return share of labelled rows, number of classes and imbalance."""
    total = sum(rows.values())
    share = f"{sum(facts.labelled.values()) / total:.1%}" if total else "-"
    imbalance = facts.imbalance
    return (
        share,
        str(len(facts.classes) or "-"),
        "-" if imbalance is None else f"{imbalance:.1f} : 1",
    )

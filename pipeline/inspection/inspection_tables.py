"""Findings as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipeline.inspection.data_checks import ERROR, NOTE, WARNING, data_verdict
from pipeline.inspection.data_statistics import SPLITS
from pipeline.inspection.inspection_run import InspectionFindings
from pipeline.terminal import new_table, say

COLOURS = {ERROR: "red", WARNING: "yellow", NOTE: "cyan"}
LISTED = 3  # places of a problem
PIXELS, MOST_CLASSES = "pixels", 40  # classes of pixels that are listed


def print_findings(console: Console, found: InspectionFindings) -> None:
    for table in finding_tables(found):
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
            say(console, f"  {place}")
        if len(problem.places) > LISTED:
            console.print("  ...")
    console.print(f"[bold]{data_verdict(found.problems)}[/]", highlight=False)


def finding_tables(found: InspectionFindings) -> Iterator[Table]:
    """Yield a line a data set, a figure of its inputs, a task of it, and a class of pixels."""
    rows = new_table("data set", "inputs", *SPLITS, numbers=3)
    figures = new_table("data set", "figure", "min / 5 % / middle / 95 % / max", numbers=1)
    tasks = new_table("task", "data set", "type", "labelled", "classes", "imbalance", numbers=3)
    pixels = new_table("task", "data set", "share of pixels", *SPLITS, numbers=3)
    for name, facts in found.facts.items():
        counts = [f"{facts.rows[split]:,}" for split in SPLITS]
        rows.add_row(escape(name), "+".join(facts.inputs), *counts)
        for figure, value in facts.figures():
            figures.add_row(escape(name), escape(figure), value)
        for task, own in facts.tasks.items():
            tasks.add_row(escape(task), escape(name), own.kind, *own.cells(facts.rows))
            for label in own.classes[:MOST_CLASSES] if own.unit == PIXELS else ():
                shares = [own.labels[s][label] / max(1, own.labels[s].total()) for s in SPLITS]
                cells = [f"{share:.2%}" for share in shares]
                pixels.add_row(escape(task), escape(name), escape(label), *cells)
    yield from (rows, figures, tasks, pixels)

"""Findings as one HTML file that needs nothing else: no network, no scripts."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from pipeline.inspection.facts import DatasetFacts, TaskFacts
from pipeline.inspection.inspector import Findings
from pipeline.inspection.problems import Problem, verdict
from pipeline.inspection.samples import sample_html, sample_rows
from pipeline.inspection.tables import SPLITS, task_cells
from pipeline.pages.document import document, table_html

MOST_BARS = 40  # classes of a plot
BINS = 24  # bars of a plot of numbers

STYLE = Path(__file__).with_name("page.css").read_text(encoding="utf-8")


def page(name: str, found: Findings, samples: int) -> str:
    """Return the whole page.

    Args:
        name: of the data, its title.
        found: what was found.
        samples: rows of each data set that are shown.
    """
    parts = [
        f"<h1>{escape(name)}</h1><p class='verdict'>{escape(verdict(found.problems))}</p>",
        *map(problem_html, found.problems),
    ]
    for dataset, facts in found.facts.items():
        parts.append(f"<h2>{escape(dataset)}</h2><small>{escape(facts.location)}</small>")
        parts.append(dataset_html(facts))
        parts += [task_html(task, own, facts) for task, own in facts.tasks.items()]
        subject = found.subjects[dataset]
        shown = [sample_html(subject, row) for row in sample_rows(subject, samples)]
        if shown:
            parts.append(f"<h3>Training rows</h3><div class='samples'>{''.join(shown)}</div>")
    return document(f"{name}: data", STYLE, parts)


def problem_html(problem: Problem) -> str:
    """Return one problem as a box."""
    count = f"{problem.count:,} " if problem.count else ""
    items = "".join(f"<li>{escape(place)}</li>" for place in problem.places)
    places = f"<ul>{items}</ul>" if items else ""
    return (
        f"<div class='problem {problem.severity}'><span class='tag'>{problem.severity}</span>"
        f"<b>{escape(problem.where)}</b>: {count}{escape(problem.what)}. "
        f"{escape(problem.advice[:1].upper() + problem.advice[1:])}.{places}</div>"
    )


def dataset_html(facts: DatasetFacts) -> str:
    """Return rows by split, and the inputs' figures."""
    rows = [[split, f"{facts.rows[split]:,}"] for split in SPLITS]
    figures = [
        [f"{modality} {figure}", value]
        for modality, own in facts.inputs.items()
        for figure, value in own.figures.items()
    ]
    figures += [
        [f"{task} {figure}", value]
        for task, labels in facts.tasks.items()
        for figure, value in labels.figures.items()
    ]
    heading = ["input", "min / 5 % / middle / 95 % / max"]
    return table_html(["split", "rows"], rows, 1) + (
        table_html(heading, figures, 1) if figures else ""
    )


def task_html(name: str, facts: TaskFacts, data: DatasetFacts) -> str:
    """Return a task's figures and a plot of its labels."""
    share, classes, imbalance = task_cells(facts, data.rows)
    row = [[facts.kind, share, classes, imbalance]]
    head = f"<h3>{escape(name)}</h3>"
    table = table_html(["type", "labelled", "classes", "imbalance"], row, 3)
    return (
        head
        + table
        + (label_bars(facts) if facts.classes else number_bars(facts.numbers, facts.unit))
    )


def label_bars(facts: TaskFacts) -> str:
    """Draw each class' share of every split's labels."""
    shown = facts.classes[:MOST_BARS]
    totals = {split: max(1, facts.labels[split].total()) for split in SPLITS}
    most = max(facts.labels[s][c] / totals[s] for s in SPLITS for c in shown)
    height, left, width = 22, 190, 560
    bars = []
    for place, name in enumerate(shown):
        top = place * height
        label = name if len(name) <= 26 else f"{name[:25]}…"
        bars.append(f"<text x='{left - 8}' y='{top + 14}' text-anchor='end'>{escape(label)}</text>")
        for number, split in enumerate(SPLITS):
            count = facts.labels[split][name]
            wide = width * count / totals[split] / most
            bars.append(
                f"<rect class='{split}' x='{left}' y='{top + 2 + number * 6}' height='5' "
                f"width='{wide:.1f}'><title>{escape(name)}: {count:,} of {split}</title></rect>"
            )
        count = facts.labels["train"][name]
        bars.append(f"<text x='{left + width + 8}' y='{top + 14}'>{count:,}</text>")
    rest = len(facts.classes) - len(shown)
    more = f"<p class='key'>and {rest} classes with fewer rows</p>" if rest > 0 else ""
    size = f"width='{left + width + 90}' height='{len(shown) * height}'"
    return f"{KEY}{facts.unit}</p><svg role='img' {size}>{''.join(bars)}</svg>{more}"


KEY = "<p class='key'>share of the labels of" + "".join(
    f"<i style='background:var(--{split})'></i>{split}" for split in SPLITS
)
KEY += "; at the right, training "


def number_bars(numbers: Sequence[float], unit: str) -> str:
    """Draw how many training rows, or some of the pixels, have which numbers."""
    if not numbers:
        return ""
    low, high = min(numbers), max(numbers)
    counts = [0] * BINS
    for value in numbers:
        counts[min(BINS - 1, int((value - low) / ((high - low) or 1) * BINS))] += 1
    bars = "".join(
        f"<rect class='valid' x='{place * 24}' y='{90 - 80 * count / max(counts):.1f}' width='22' "
        f"height='{80 * count / max(counts):.1f}'><title>{count:,} {unit}</title></rect>"
        for place, count in enumerate(counts)
    )
    ends = (
        f"<text x='0' y='106'>{low:.4g}</text>"
        f"<text x='{BINS * 24}' y='106' text-anchor='end'>{high:.4g}</text>"
    )
    return f"<svg role='img' width='{BINS * 24}' height='112'>{bars}{ends}</svg>"

"""Findings as one HTML file that needs nothing else: no network, no scripts."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from html import escape
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from datamodules.label_maps import UNLABELLED_PIXEL
from datamodules.modalities.image import ImageStore
from datamodules.table import Column
from lightning_modules.tasks.dense import class_colormap
from pipeline.inspection.data_checks import SEVERITIES, DataProblem, InspectedDataset, data_verdict
from pipeline.inspection.data_statistics import DatasetStatistics, TaskStatistics
from pipeline.inspection.inspection_run import InspectionFindings
from pipeline.inspection.inspection_tables import SPLITS, task_cells
from pipeline.pages.document import document, table_html
from pipeline.run_folder import RunFolder
from pipeline.tracking.loggers import RunLogger
from pipeline.tracking.redact import redact
from pollinate.errors import PollinateError
from pollinate.instantiate import instantiate

SHARE = 0.55  # of the colour in what is shown


def overlaid(pixels: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return a picture (H, W) or (H, W, 3) with a map (H, W) on it: (H, W, 3), 0 ... 255.

    Classes have the colours of the palette; distances go from yellow (near) to blue (far). Pixels
    that are not labelled show the picture alone, in grey.
    """
    grey = pixels.mean(axis=2) if pixels.ndim == 3 else pixels
    base = np.repeat(grey[..., None], 3, axis=2)
    there = (values != UNLABELLED_PIXEL)[..., None]
    paint = painted(values)
    return np.where(there, (1 - SHARE) * base + SHARE * paint, base)


def painted(values: np.ndarray) -> np.ndarray:
    """Return a colour for each value (H, W): (H, W, 3)."""
    if values.dtype.kind == "i":
        return class_colormap(max(2, int(values.max())))[np.maximum(values.astype(np.int64) - 1, 0)]
    low, high = values[values != UNLABELLED_PIXEL].min(initial=np.inf), values.max(initial=0)
    far = ((values - low) / max(high - low, 1e-6)).clip(0, 1)[..., None]
    near, beyond = np.array([255.0, 220.0, 60.0]), np.array([40.0, 40.0, 160.0])
    found: np.ndarray = (1 - far) * near + far * beyond
    return found


SIDE = 112  # pixels of a thumbnail
LONGEST = 240  # characters of a text


def sample_rows(inspected: InspectedDataset, count: int) -> list[int]:
    """Return training rows, one of each label of the first task in turn, evenly spaced."""
    rows = inspected.loaded.rows["train"]
    if not len(rows) or not count:
        return []
    first = next(iter(inspected.tasks), None)
    if first is None:
        return [int(row) for row in rows[:: max(1, len(rows) // count)][:count]]
    by_label: dict[str, list[int]] = {}
    for row, cell in zip(rows.tolist(), inspected.loaded.target(first, "train"), strict=True):
        by_label.setdefault(str(cell), []).append(row)
    queues = [by_label[label] for label in sorted(by_label)]
    turns = [queue[turn] for turn in range(count) for queue in queues if turn < len(queue)]
    return turns[:: max(1, min(len(queues), len(turns)) // count)][:count]


def sample_html(inspected: InspectedDataset, row: int) -> str:
    """Return one row: picture, spectrogram, text, labels; what comes from data is escaped."""
    parts = [shown for name in inspected.stores if (shown := input_html(inspected, name, row))]
    parts += [shown for task in inspected.loaded.maps if (shown := map_html(inspected, task, row))]
    labels = [
        f"<b>{escape(task)}</b> {escape(text_of(inspected.loaded.targets[task], row))}"
        for task, spec in inspected.tasks.items()
        if not spec.task.modalities and spec.task.maps is None
    ]
    place = escape(inspected.loaded.table.place(row).rpartition("/")[2])
    caption = f"<figcaption>{'<br>'.join(labels)}<br><small>{place}</small></figcaption>"
    return f"<figure>{''.join(parts)}{caption}</figure>"


def input_html(inspected: InspectedDataset, modality: str, row: int) -> str:
    """Return one modality of a row; nothing if the row lacks it."""
    store = inspected.stores[modality]
    if not store.has[row]:
        return ""
    if modality == "text":
        return f"<p>{escape(text_of(inspected.loaded.inputs[modality], row)[:LONGEST])}</p>"
    try:
        found = store.rows(np.array([row]))[0].numpy()
    except PollinateError:
        return ""
    if isinstance(store, ImageStore):
        return picture(np.moveaxis(found * 255, 0, -1).squeeze())
    low, high = np.nanmin(found), np.nanmax(found)
    return picture(255 * (found.T[::-1] - low) / max(high - low, 1e-6))


def map_html(inspected: InspectedDataset, task: str, row: int) -> str:
    """Return a row's mask or depth on its picture; nothing if the row lacks either."""
    form, maps = inspected.tasks[task].task.maps, inspected.loaded.maps[task]
    assert form is not None
    store = inspected.stores[form.modality]
    if not (store.has[row] and maps.has[row]):
        return ""
    try:
        pixels = store.rows(np.array([row]))[0].numpy()
    except PollinateError:
        return ""
    shown = overlaid(np.moveaxis(pixels * 255, 0, -1).squeeze(), maps.rows(np.array([row]))[0])
    return f"{picture(shown)}<small>{escape(task)}</small>"


def picture(pixels: np.ndarray) -> str:
    """Return pixels as a picture inside the page."""
    image = Image.fromarray(np.nan_to_num(pixels).clip(0, 255).astype(np.uint8))
    scale = SIDE / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    file = BytesIO()
    image.resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BILINEAR).save(
        file, format="PNG"
    )
    return f'<img alt="" src="data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}">'


def text_of(column: Column, row: int) -> str:
    """Return a cell as text."""
    cell: Any = column[row]
    if cell is None:
        return "-"
    return " | ".join(map(str, cell)) if isinstance(cell, list | tuple) else str(cell)


MOST_BARS = 40  # classes of a plot
BINS = 24  # bars of a plot of numbers

STYLE = Path(__file__).with_name("page.css").read_text(encoding="utf-8")


def inspection_page(name: str, found: InspectionFindings, samples: int) -> str:
    """Return the whole page.

    Args:
        name: of the data, its title.
        found: what was found.
        samples: rows of each data set that are shown.
    """
    parts = [
        f"<h1>{escape(name)}</h1><p class='verdict'>{escape(data_verdict(found.problems))}</p>",
        *map(problem_html, found.problems),
    ]
    for dataset, facts in found.facts.items():
        parts.append(f"<h2>{escape(dataset)}</h2><small>{escape(facts.location)}</small>")
        parts.append(dataset_html(facts))
        parts += [task_html(task, own, facts) for task, own in facts.tasks.items()]
        inspected = found.inspected_datasets[dataset]
        shown = [sample_html(inspected, row) for row in sample_rows(inspected, samples)]
        if shown:
            parts.append(f"<h3>Training rows</h3><div class='samples'>{''.join(shown)}</div>")
    return document(f"{name}: data", STYLE, parts)


def problem_html(problem: DataProblem) -> str:
    """Return one problem as a box."""
    count = f"{problem.count:,} " if problem.count else ""
    items = "".join(f"<li>{escape(place)}</li>" for place in problem.places)
    places = f"<ul>{items}</ul>" if items else ""
    return (
        f"<div class='problem {problem.severity}'><span class='tag'>{problem.severity}</span>"
        f"<b>{escape(problem.where)}</b>: {count}{escape(problem.what)}. "
        f"{escape(problem.advice[:1].upper() + problem.advice[1:])}.{places}</div>"
    )


def dataset_html(facts: DatasetStatistics) -> str:
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


def task_html(name: str, facts: TaskStatistics, data: DatasetStatistics) -> str:
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


def label_bars(facts: TaskStatistics) -> str:
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


PAGE, PROBLEMS = "inspect.html", "problems.json"


def save_inspection(
    config: Mapping[str, Any], folder: RunFolder, found: InspectionFindings
) -> Path:
    """Write the page and the problems, and track both; return the page's path."""
    folder.create()
    folder.write_config(redact(config))
    title = ", ".join(found.facts) or config["name"]
    (folder.path / PAGE).write_text(
        inspection_page(title, found, config["samples"]), encoding="utf-8"
    )
    problems = json.dumps([asdict(problem) for problem in found.problems], indent=2)
    (folder.path / PROBLEMS).write_text(problems + "\n", encoding="utf-8")
    options = {"run_dir": folder.path, "run_name": config["name"], "resume": False}
    tracker: RunLogger = instantiate(
        config["tracking"], config["allow_targets"], "tracking", **options
    )
    tracker.log_params({"data": config["data"]})
    tracker.log_metrics(inspection_metrics(found))
    for name in (PAGE, PROBLEMS):
        tracker.log_artifact(folder.path / name)
    tracker.close("finished")
    return folder.path / PAGE


def inspection_metrics(found: InspectionFindings) -> dict[str, float]:
    """Return numbers of rows, labels and problems."""
    numbers = {
        f"problems/{name}": float(sum(p.severity == name for p in found.problems))
        for name in SEVERITIES
    }
    for dataset, facts in found.facts.items():
        numbers |= {f"rows/{dataset}/{split}": float(n) for split, n in facts.rows.items()}
        for task, own in facts.tasks.items():
            labelled = sum(own.labelled.values())
            numbers[f"labelled/{dataset}/{task}"] = float(labelled)
    return numbers

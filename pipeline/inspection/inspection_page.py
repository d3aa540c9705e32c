"""Findings for people: one HTML file that needs nothing else, tracked, and tables in a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from datamodules.label_maps import UNLABELLED_PIXEL
from datamodules.modalities.image import ImageStore
from lightning_modules.tasks.dense import class_colormap
from pipeline.inspection.data_checks import (
    ERROR,
    NOTE,
    SEVERITIES,
    WARNING,
    InspectedDataset,
    data_verdict,
)
from pipeline.inspection.data_statistics import SPLITS, DatasetStatistics, TaskStatistics
from pipeline.inspection.inspection_run import InspectionFindings
from pipeline.pages import render
from pipeline.pages.pictures import picture, pixels_of_frames, pixels_of_values, text_of
from pipeline.recorded_run import recorded_run
from pipeline.run_folder import RunFolder
from pipeline.terminal import new_table, say
from pipeline.text_format import cell
from pollinate.console import styled
from pollinate.errors import PollinateError
from pollinate.files import write_json, write_text

PAGE, PROBLEMS = "inspect.html", "problems.json"
SHARE = 0.55  # of the colour in what is shown
LONGEST = 240  # characters of a text
MOST_BARS = 40  # classes of a plot
WIDEST, TALLEST = 560, 80  # pixels of bars
BINS = 24  # bars of a plot of numbers


def save_inspection(
    config: Mapping[str, Any], folder: RunFolder, found: InspectionFindings
) -> Path:
    title = ", ".join(found.facts) or config["name"]
    with recorded_run(config, folder) as tracker:
        write_text(folder.path / PAGE, inspection_page(title, found, config["samples"]))
        write_json(folder.path / PROBLEMS, [asdict(problem) for problem in found.problems])
        tracker.log_metrics(inspection_metrics(found))
        for name in (PAGE, PROBLEMS):
            tracker.log_artifact(folder.path / name)
    return folder.path / PAGE


def inspection_metrics(found: InspectionFindings) -> dict[str, float]:
    numbers = {
        f"problems/{name}": float(sum(p.severity == name for p in found.problems))
        for name in SEVERITIES
    }
    for dataset, facts in found.facts.items():
        numbers |= {f"rows/{dataset}/{split}": float(n) for split, n in facts.rows.items()}
        for task, own in facts.tasks.items():
            numbers[f"labelled/{dataset}/{task}"] = float(sum(own.labelled.values()))
    for score in found.references:
        known = {"baseline": score.baseline, "linear": score.linear}
        name = f"{score.task}/{score.metric}"
        numbers |= {f"{kind}/{name}": value for kind, value in known.items() if value is not None}
    return numbers


def inspection_page(name: str, found: InspectionFindings, samples: int) -> str:
    datasets = [
        {
            "name": dataset,
            "location": facts.location,
            "rows": [(split, f"{facts.rows[split]:,}") for split in SPLITS],
            "figures": list(facts.figures()),
            "tasks": [task_part(task, own, facts) for task, own in facts.tasks.items()],
            "samples": [
                sample_part(found.inspected_datasets[dataset], row)
                for row in sample_rows(found.inspected_datasets[dataset], samples)
            ],
        }
        for dataset, facts in found.facts.items()
    ]
    return render(
        "inspection.html",
        name=name,
        verdict=data_verdict(found.problems),
        problems=found.problems,
        references=[
            (one.task, one.metric, cell(one.baseline), one.reason or cell(one.linear))
            for one in found.references
        ],
        datasets=datasets,
        splits=SPLITS,
    )


def task_part(name: str, facts: TaskStatistics, data: DatasetStatistics) -> dict[str, Any]:
    classes = facts.classes[:MOST_BARS]
    totals = {split: max(1, facts.labels[split].total()) for split in SPLITS}
    shares = [facts.labels[s][c] / totals[s] for c in classes for s in SPLITS]
    scale = WIDEST / max(shares, default=1.0)
    return {
        "name": name,
        "unit": facts.unit,
        "cells": [facts.kind, *facts.cells(data.rows)],
        "classes": [
            {
                "name": label,
                "bars": [
                    {
                        "split": split,
                        "count": f"{facts.labels[split][label]:,}",
                        "width": f"{scale * facts.labels[split][label] / totals[split]:.1f}",
                    }
                    for split in SPLITS
                ],
            }
            for label in classes
        ],
        "rest": len(facts.classes) - len(classes),
        **number_bins(facts.numbers),
    }


def number_bins(numbers: Sequence[float]) -> dict[str, Any]:
    """Return how many training rows, or some of the pixels, have which numbers."""
    if not numbers:
        return {"bins": []}
    counts, _ = np.histogram(numbers, BINS)
    bins = [
        {"count": f"{count:,}", "height": round(TALLEST * count / counts.max(), 1)}
        for count in counts.tolist()
    ]
    return {"bins": bins, "low": f"{min(numbers):.4g}", "high": f"{max(numbers):.4g}"}


def sample_rows(inspected: InspectedDataset, count: int) -> list[int]:
    """Return training rows, one of each label of the first task in turn, evenly spaced."""
    rows = inspected.loaded.rows["train"]
    if not len(rows) or not count:
        return []
    first = next(iter(inspected.tasks), None)
    if first is None:
        return [int(row) for row in rows[:: max(1, len(rows) // count)][:count]]
    by_label: dict[str, list[int]] = {}
    for row, label in zip(rows.tolist(), inspected.loaded.target(first, "train"), strict=True):
        by_label.setdefault(str(label), []).append(row)
    queues = [by_label[label] for label in sorted(by_label)]
    turns = [queue[turn] for turn in range(count) for queue in queues if turn < len(queue)]
    return turns[:: max(1, min(len(queues), len(turns)) // count)][:count]


def sample_part(inspected: InspectedDataset, row: int) -> dict[str, Any]:
    """Return one row: text, pictures, labels, and where it is."""
    targets = inspected.loaded.targets
    return {
        "parts": list(shown_parts(inspected, row)),
        "labels": [
            (task, text_of(targets[task], row))
            for task, spec in inspected.tasks.items()
            if not spec.modalities and spec.maps is None
        ],
        "place": inspected.loaded.table.place(row).rpartition("/")[2],
    }


def shown_parts(inspected: InspectedDataset, row: int) -> Iterator[dict[str, str]]:
    for modality, store in inspected.stores.items():
        if modality == "text" and store.has[row]:
            yield {"text": text_of(inspected.loaded.inputs[modality], row)[:LONGEST]}
        elif (found := pixels_of(inspected, modality, row)) is not None:
            yield {"picture": picture(found)}
    for task, maps in inspected.loaded.maps.items():
        form = inspected.tasks[task].maps
        assert form is not None
        found = pixels_of(inspected, form.modality, row)
        if found is not None and maps.has[row]:
            painted = overlaid(found, maps.rows(np.array([row]))[0])
            yield {"picture": picture(painted), "title": task}


def pixels_of(inspected: InspectedDataset, modality: str, row: int) -> np.ndarray | None:
    """Return a picture or a spectrogram: (H, W) or (H, W, 3), 0 ... 255; None: there is none."""
    store = inspected.stores[modality]
    if not store.has[row]:
        return None
    try:
        found = store.rows(np.array([row]))[0]
    except PollinateError:
        return None
    return pixels_of_values(found) if isinstance(store, ImageStore) else pixels_of_frames(found)


def overlaid(pixels: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return a picture (H, W) or (H, W, 3) with a map (H, W) on it: (H, W, 3), 0 ... 255.

    Classes have the colours of the colormap; distances go from yellow (near) to blue (far). Pixels
    that are not labelled show the picture, in grey.
    """
    grey = pixels.mean(axis=2) if pixels.ndim == 3 else pixels
    base = np.repeat(grey[..., None], 3, axis=2)
    there = values != UNLABELLED_PIXEL
    if values.dtype.kind == "i":
        colours = class_colormap(max(2, int(values.max())))
        paint = colours[np.maximum(values.astype(np.int64) - 1, 0)]
    else:
        low, high = values[there].min(initial=np.inf), values.max(initial=0)
        far = ((values - low) / max(high - low, 1e-6)).clip(0, 1)[..., None]
        paint = (1 - far) * np.array([255.0, 220.0, 60.0]) + far * np.array([40.0, 40.0, 160.0])
    return np.where(there[..., None], (1 - SHARE) * base + SHARE * paint, base)


COLOURS = {ERROR: "red", WARNING: "yellow", NOTE: "cyan"}
LISTED = 3  # places of a problem
PIXEL_UNIT, MOST_CLASSES = "pixels", 40  # classes of pixels that are listed


def print_findings(console: Console, found: InspectionFindings) -> None:
    for table in finding_tables(found):
        if table.row_count:
            console.print(table)
            console.print()
    for problem in found.problems:
        colour = COLOURS[problem.severity]
        count = f"{problem.count:,} " if problem.count else ""
        console.print(
            styled(
                (problem.severity, f"bold {colour}"),
                (f" {problem.where}", "bold"),
                f": {count}{problem.what}; {problem.advice}",
            ),
            highlight=False,
            soft_wrap=True,
        )
        for place in problem.places[:LISTED]:
            say(console, f"  {place}")
        if len(problem.places) > LISTED:
            console.print("  ...")
    console.print(styled((data_verdict(found.problems), "bold")), highlight=False)


def finding_tables(found: InspectionFindings) -> Iterator[Table]:
    """Yield a line a data set, a figure of its inputs, a task of it, and a class of pixels."""
    rows = new_table("data set", "inputs", *SPLITS, numbers=3)
    figures = new_table("data set", "figure", "min / 5 % / middle / 95 % / max", numbers=1)
    tasks = new_table("task", "data set", "type", "labelled", "classes", "imbalance", numbers=3)
    pixels = new_table("task", "data set", "share of pixels", *SPLITS, numbers=3)
    for name, facts in found.facts.items():
        counts = [f"{facts.rows[split]:,}" for split in SPLITS]
        rows.add_row(name, "+".join(facts.inputs), *counts)
        for figure, value in facts.figures():
            figures.add_row(name, figure, value)
        for task, own in facts.tasks.items():
            tasks.add_row(task, name, own.kind, *own.cells(facts.rows))
            for label in own.classes[:MOST_CLASSES] if own.unit == PIXEL_UNIT else ():
                shares = [own.labels[s][label] / max(1, own.labels[s].total()) for s in SPLITS]
                cells = [f"{share:.2%}" for share in shares]
                pixels.add_row(task, name, label, *cells)
    references = new_table("task", "metric", "baseline", "linear", numbers=2)
    for one in found.references:
        references.add_row(one.task, one.metric, cell(one.baseline), one.reason or cell(one.linear))
    yield from (rows, figures, tasks, pixels, references)

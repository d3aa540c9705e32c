"""A few rows of a data set, to look at."""

from __future__ import annotations

import base64
from html import escape
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from datamodules.columns import Column
from datamodules.modalities.image import ImageStore
from pipeline.errors import PollinateError
from pipeline.inspection.checks import Subject
from pipeline.inspection.overlay import overlaid

SIDE = 112  # pixels of a thumbnail
LONGEST = 240  # characters of a text


def sample_rows(subject: Subject, count: int) -> list[int]:
    """Return training rows, one of each label of the first task in turn, evenly spaced."""
    rows = subject.loaded.rows["train"]
    if not len(rows) or not count:
        return []
    first = next(iter(subject.tasks), None)
    if first is None:
        return [int(row) for row in rows[:: max(1, len(rows) // count)][:count]]
    by_label: dict[str, list[int]] = {}
    for row, cell in zip(rows.tolist(), subject.loaded.target(first, "train"), strict=True):
        by_label.setdefault(str(cell), []).append(row)
    queues = [by_label[label] for label in sorted(by_label)]
    turns = [queue[turn] for turn in range(count) for queue in queues if turn < len(queue)]
    return turns[:: max(1, min(len(queues), len(turns)) // count)][:count]


def sample_html(subject: Subject, row: int) -> str:
    """Return one row: picture, spectrogram, text, labels; what comes from data is escaped."""
    parts = [shown for name in subject.stores if (shown := input_html(subject, name, row))]
    parts += [shown for task in subject.loaded.maps if (shown := map_html(subject, task, row))]
    labels = [
        f"<b>{escape(task)}</b> {escape(text_of(subject.loaded.targets[task], row))}"
        for task, spec in subject.tasks.items()
        if not spec.task.modalities and spec.task.maps is None
    ]
    place = escape(subject.loaded.table.place(row).rpartition("/")[2])
    caption = f"<figcaption>{'<br>'.join(labels)}<br><small>{place}</small></figcaption>"
    return f"<figure>{''.join(parts)}{caption}</figure>"


def input_html(subject: Subject, modality: str, row: int) -> str:
    """Return one modality of a row; nothing if the row lacks it."""
    store = subject.stores[modality]
    if not store.has[row]:
        return ""
    if modality == "text":
        return f"<p>{escape(text_of(subject.loaded.inputs[modality], row)[:LONGEST])}</p>"
    try:
        found = store.rows(np.array([row]))[0].numpy()
    except PollinateError:
        return ""
    if isinstance(store, ImageStore):
        return picture(np.moveaxis(found * 255, 0, -1).squeeze())
    low, high = np.nanmin(found), np.nanmax(found)
    return picture(255 * (found.T[::-1] - low) / max(high - low, 1e-6))


def map_html(subject: Subject, task: str, row: int) -> str:
    """Return a row's mask or depth on its picture; nothing if the row lacks either."""
    form, maps = subject.tasks[task].task.maps, subject.loaded.maps[task]
    assert form is not None
    store = subject.stores[form.modality]
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

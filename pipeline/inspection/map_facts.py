"""What the masks and depths of a data set consist of."""

from __future__ import annotations

from collections import Counter

import numpy as np

from datamodules.loading import Loaded
from datamodules.maps.base import EMPTY
from lightning_modules.tasks.segmentation import Segmentation

MAPS, PIXELS = 1000, 100  # maps of a split, and pixels of a map, that measurements are taken of


def labelled_maps(loaded: Loaded, task: str) -> dict[str, int]:
    """Count the rows that have a map: {split: rows}."""
    store = loaded.maps[task]
    return {split: int(store.has[rows].sum()) for split, rows in loaded.rows.items()}


def class_pixels(task: Segmentation, loaded: Loaded, name: str) -> dict[str, Counter[str]]:
    """Count each class' pixels: {split: {class: pixels}}."""
    found: dict[str, Counter[str]] = {}
    for split in loaded.rows:
        counts = np.zeros(1, np.int64)
        for values in loaded.label(name, split):
            if values is not None:
                own = np.bincount(values.ravel(), minlength=len(counts))
                own[: len(counts)] += counts
                counts = own
        counts[EMPTY] = 0
        numbers = np.flatnonzero(counts).tolist()
        found[split] = Counter({task.name(n - 1): int(counts[n]) for n in numbers})
    return found


def distances(loaded: Loaded, name: str) -> list[float]:
    """Return measured distances of the training split, of evenly spaced maps and pixels."""
    rows = loaded.rows["train"]
    column = loaded.maps[name].column(rows[:: max(1, -(-len(rows) // MAPS))])
    found: list[float] = []
    for values in column:
        if values is not None:
            own = values[values != EMPTY]
            found += own[:: max(1, -(-len(own) // PIXELS))].tolist()
    return found

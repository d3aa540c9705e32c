"""One pass of a frozen backbone over all rows of a data set, whose features are cached."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from datamodules.arrays import FileArrays
from datamodules.feature_table import FeatureTableWriter, unpad
from datamodules.features import Features
from datamodules.modalities.base import InputStore
from datamodules.progress_bar import track
from pollinate.errors import PollinateError

BATCH_SIZE = 32  # rows at a time, at most
WINDOW = 512  # rows that are in memory, sorted by length
PROBED = 8  # rows that are looked at for whether they can be kept
REFUSED = "refused"

Backbone = Callable[[Tensor], Features]


@dataclass
class FeatureExtraction:
    """One data set's rows of one modality.

    backbone: inputs (N, ...) -> features on the CPU, in 32 or 64 bits.
    store: the rows.
    whole: whether features of tokens and cells are kept, too.
    tolerance: difference between two computations of a row that is rounding, as a share of the
        largest number.
    what: is computed, for people.
    switch: key that leaves it out.
    batch: rows at a time, >= 1.
    """

    backbone: Backbone
    store: InputStore
    whole: bool
    tolerance: float
    what: str
    switch: str
    batch: int = BATCH_SIZE

    def write(self, folder: Path) -> None:
        """Fill a folder with the features, or with why there can't be any.

        Raises:
            PollinateError: they don't fit the disk.
        """
        arrays, probed = FileArrays(folder), self._probed()
        example = self.backbone(self.store.rows(probed))
        reason = self._refusal(example, probed)
        arrays.put(REFUSED, reason)
        if reason is None:
            self._require_room(folder, example, probed)
            kept = FeatureTableWriter(arrays, example, self.whole)
            try:
                for row in track(self._rows(), self.what, len(self.store)):
                    kept.append(row)
            finally:
                kept.close()

    @torch.no_grad()
    def _rows(self) -> Iterator[dict[str, np.ndarray] | None]:
        """Yield the rows' features in the rows' order."""
        for start in range(0, len(self.store), WINDOW):
            window = np.arange(start, min(start + WINDOW, len(self.store)))
            own = by_length(self.store, window[self.store.has[window]])
            found: dict[int, dict[str, np.ndarray]] = {}
            for first in range(0, len(own), self.batch):
                rows = own[first : first + self.batch]
                features = self.backbone(self.store.rows(rows))
                found.update(zip(rows.tolist(), unpad(features, self.whole), strict=True))
            for row in window.tolist():
                yield found.get(row)

    def _probed(self) -> np.ndarray:
        """Return some rows, from the shortest to the longest."""
        rows = by_length(self.store, np.flatnonzero(self.store.has))
        places = np.linspace(0, max(0, len(rows) - 1), min(PROBED, len(rows))).round()
        found: np.ndarray = rows[places.astype(np.int64)]
        return found

    def _refusal(self, example: Features, rows: np.ndarray) -> str | None:
        """Return why features aren't functions of their row alone, None if they are."""
        if example.pooled.requires_grad:
            return "weights that train have a part in them"
        mask = example.mask
        if self.whole and mask is not None and (mask[:, 1:] & ~mask[:, :-1]).any():
            return "their tokens don't come before the padding"
        alone = [self.backbone(self.store.rows(rows[i : i + 1])).pooled for i in range(len(rows))]
        largest = example.pooled.abs().max().item() if len(rows) else 0.0
        apart = max(
            ((one - example.pooled[i]).abs().max().item() for i, one in enumerate(alone)),
            default=0.0,
        )
        if not apart <= self.tolerance * largest:
            return f"they depend on the rows beside a row: a number changes by {apart:.1g}"
        return None

    def _require_room(self, folder: Path, example: Features, rows: np.ndarray) -> None:
        """Check that the disk has room."""
        sizes = [sum(v.nbytes for v in row.values()) for row in unpad(example, self.whole)]
        needed, free = self._share(rows) * sum(sizes), shutil.disk_usage(folder).free
        if needed > free:
            raise PollinateError(
                f"{self.what} need {needed / 1e9:,.3g} GB in {folder.parents[1]}, which has "
                f"{free / 1e9:,.3g} GB left; choose another place with data.cache=PATH, or compute "
                f"them in every step: {self.switch}=false"
            )

    def _share(self, rows: np.ndarray) -> float:
        """Return how many times the chosen rows all rows are, by length where they have one."""
        lengths, has = self.store.lengths(), self.store.has
        if lengths is None or not self.whole:
            return float(has.sum() / max(1, len(rows)))
        return float(lengths[has].sum() / max(1, lengths[rows].sum()))


def by_length(store: InputStore, rows: np.ndarray) -> np.ndarray:
    """Return rows by rising length, where they have one."""
    lengths = store.lengths()
    return rows if lengths is None else rows[np.argsort(lengths[rows], kind="stable")]

"""One data set, loaded, split and ready to give rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from datamodules.batch import Batch
from datamodules.kept import KeptRows
from datamodules.modalities.base import Store
from datamodules.stream import Stream
from datamodules.streaming.order import LaneStream


@dataclass
class Part:
    """One split of one data set.

    name: the data set's name.
    stores: {modality: prepared inputs of all rows of the data set}.
    rows: (N,) int64, the split's rows in the stores.
    targets: {task: (N, ...)}.
    present: {task: (N,) bool}.
    streamed: whether rows are read from files as they come, so that neighbours should come soon
        after each other.
    kept: {modality: features of all rows of the data set}, given in place of the inputs.
    """

    name: str
    stores: Mapping[str, Store]
    rows: np.ndarray
    targets: dict[str, Tensor]
    present: dict[str, Tensor]
    streamed: bool = False
    kept: Mapping[str, KeptRows] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Number of rows N, >= 0."""
        return len(self.rows)

    def batch(self, rows: np.ndarray) -> Batch:
        """Return the given rows (n,) of the split as they are."""
        return self._batch(rows, lambda store, chosen, _: store.rows(chosen))

    def augmented(self, rows: np.ndarray, seed: int, passes: np.ndarray) -> Batch:
        """Return the given rows (n,) of the split augmented; see ``Store.augmented``."""
        own_seed = crc32(f"{seed}/{self.name}".encode())
        return self._batch(
            rows, lambda store, chosen, has: store.augmented(chosen, own_seed, passes[has])
        )

    def labelled(self, rows: np.ndarray) -> dict[str, int]:
        """Return how many of the given rows have a label, by task."""
        index = torch.from_numpy(rows)
        return {task: int(mask[index].sum()) for task, mask in self.present.items()}

    def lengths(self) -> np.ndarray | None:
        """Return the sum of each row's lengths, (N,) int, None if all rows are of one length."""
        known = [store.lengths() for store in self.stores.values()]
        found = [lengths[self.rows] for lengths in known if lengths is not None]
        total: np.ndarray = np.sum(found, axis=0)
        return total if found else None

    def stream(self, seed: int, bucket: int, count: int) -> Stream | LaneStream:
        """Return the order in which training takes the rows.

        Args:
            seed: of the order.
            bucket: batches that are sorted by length together; 1 is off.
            count: rows that a step takes, as far as that is known.
        """
        if self.streamed:
            return LaneStream(seed, self.name, self.size, count)
        return Stream(seed, self.name, self.size, self.lengths() if bucket > 1 else None, bucket)

    def _batch(
        self, rows: np.ndarray, read: Callable[[Store, np.ndarray, np.ndarray], Tensor]
    ) -> Batch:
        batch = Batch({}, {}, {}, torch.from_numpy(rows))
        for modality, store in self.stores.items():
            chosen = self.rows[rows]
            has = store.has[chosen]
            if modality in self.kept:
                batch.kept[modality] = self.kept[modality].rows(chosen[has])
            else:
                batch.inputs[modality] = read(store, chosen[has], has)
            words = store.words(chosen[has])
            if words is not None:
                batch.words[modality] = words
            if not has.all():
                batch.has[modality] = torch.from_numpy(has)
        batch.targets = {task: values[batch.index] for task, values in self.targets.items()}
        batch.present = {task: mask[batch.index] for task, mask in self.present.items()}
        return batch

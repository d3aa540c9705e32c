"""One data set, loaded, split and ready to give rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from datamodules.augment import Maps
from datamodules.batch import Batch
from datamodules.kept import KeptRows
from datamodules.maps.base import EMPTY
from datamodules.maps.store import MapStore
from datamodules.modalities.base import Store
from datamodules.stream import Stream
from datamodules.streaming.order import LaneStream
from lightning_modules.tasks.base import Encoded

CHUNK = 64  # maps that are in memory at a time
# store, its rows that are wanted, which of the batch's rows these are, maps on them
Read = Callable[[Store, np.ndarray, np.ndarray, Maps], tuple[Tensor, Maps]]


@dataclass
class MapTargets:
    """A task's targets that lie on inputs.

    store: prepared maps of all rows of the data set; modality: of the inputs.
    encode: maps (n, H, W) -> targets.
    """

    store: MapStore
    modality: str
    encode: Callable[[np.ndarray], Encoded]

    def targets(self, rows: np.ndarray) -> Tensor:
        """Return the targets of the chosen rows as they are: (n, H, W)."""
        return self.encode(self.store.rows(rows)).targets


@dataclass
class Part:
    """One split of one data set.

    name: the data set's name.
    stores: {modality: prepared inputs of all rows of the data set}.
    rows: (N,) int64, the split's rows in the stores.
    targets: {task: (N, ...)}, of tasks whose targets are in memory.
    present: {task: (N,) bool}, of all tasks.
    streamed: whether rows are read from files as they come, so that neighbours should come soon
        after each other.
    maps: {task: targets that lie on inputs}.
    kept: {modality: features of all rows of the data set}, given in place of the inputs.
    """

    name: str
    stores: Mapping[str, Store]
    rows: np.ndarray
    targets: dict[str, Tensor]
    present: dict[str, Tensor]
    streamed: bool = False
    maps: Mapping[str, MapTargets] = field(default_factory=dict)
    kept: Mapping[str, KeptRows] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Number of rows N, >= 0."""
        return len(self.rows)

    def batch(self, rows: np.ndarray) -> Batch:
        """Return the given rows (n,) of the split as they are."""
        return self._batch(rows, lambda store, chosen, _, maps: (store.rows(chosen), maps))

    def augmented(self, rows: np.ndarray, seed: int, passes: np.ndarray) -> Batch:
        """Return the given rows (n,) of the split augmented; see ``Store.augmented``."""
        own_seed = crc32(f"{seed}/{self.name}".encode())
        return self._batch(
            rows,
            lambda store, chosen, has, maps: store.moved(chosen, own_seed, passes[has], maps),
        )

    def labels(self, task: str) -> Iterator[Tensor]:
        """Yield a task's targets (n, ...) of the rows that have one, some at a time."""
        rows = np.flatnonzero(self.present[task].numpy())
        if task not in self.maps:
            yield self.targets[task][torch.from_numpy(rows)]
            return
        for start in range(0, len(rows), CHUNK):
            yield self.maps[task].targets(self.rows[rows[start : start + CHUNK]])

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

    def _batch(self, rows: np.ndarray, read: Read) -> Batch:
        batch = Batch({}, {}, {}, torch.from_numpy(rows))
        for modality, store in self.stores.items():
            chosen = self.rows[rows]
            has = store.has[chosen]
            moved = self._maps(modality, chosen[has])
            if modality in self.kept:
                batch.kept[modality] = self.kept[modality].rows(chosen[has])
            else:
                batch.inputs[modality], moved = read(store, chosen[has], has, moved)
            for task, values in moved.items():
                batch.targets[task] = self.maps[task].encode(spread(values, has)).targets
            words = store.words(chosen[has])
            if words is not None:
                batch.words[modality] = words
            if not has.all():
                batch.has[modality] = torch.from_numpy(has)
        batch.targets |= {task: values[batch.index] for task, values in self.targets.items()}
        batch.present = {task: mask[batch.index] for task, mask in self.present.items()}
        return batch

    def _maps(self, modality: str, rows: np.ndarray) -> Maps:
        """Return {task: maps (n, H, W)} that lie on a modality's inputs, of rows of the stores."""
        return {
            task: torch.from_numpy(found.store.rows(rows))
            for task, found in self.maps.items()
            if found.modality == modality
        }


def spread(values: Tensor, has: np.ndarray) -> np.ndarray:
    """Return maps (m, H, W) of the m rows that ``has`` names, ``EMPTY`` elsewhere: (n, H, W)."""
    if has.all():
        return values.numpy()
    full = np.full((len(has), *values.shape[1:]), EMPTY, dtype=values.numpy().dtype)
    full[has] = values.numpy()
    return full

"""One data set, loaded, split and ready to give rows."""

from __future__ import annotations

from dataclasses import dataclass
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from datamodules.batch import Batch
from datamodules.modalities.base import Store


@dataclass
class Part:
    """One split of one data set.

    name: the data set's name.
    stores: {modality: prepared inputs of N rows}.
    targets: {task: (N, ...)}.
    present: {task: (N,) bool}.
    size: N, >= 0.
    """

    name: str
    stores: dict[str, Store]
    targets: dict[str, Tensor]
    present: dict[str, Tensor]
    size: int

    def batch(self, rows: np.ndarray) -> Batch:
        """Return the given rows (n,) as they are."""
        inputs = {modality: store.rows(rows) for modality, store in self.stores.items()}
        return self._batch(rows, inputs)

    def augmented(self, rows: np.ndarray, seed: int, passes: np.ndarray) -> Batch:
        """Return the given rows (n,) augmented; see ``Store.augmented``."""
        own_seed = crc32(f"{seed}/{self.name}".encode())
        inputs = {
            modality: store.augmented(rows, own_seed, passes)
            for modality, store in self.stores.items()
        }
        return self._batch(rows, inputs)

    def labelled(self, rows: np.ndarray) -> dict[str, int]:
        """Return how many of the given rows have a label, by task."""
        index = torch.from_numpy(rows)
        return {task: int(mask[index].sum()) for task, mask in self.present.items()}

    def _batch(self, rows: np.ndarray, inputs: dict[str, Tensor]) -> Batch:
        index = torch.from_numpy(rows)
        targets = {task: values[index] for task, values in self.targets.items()}
        present = {task: mask[index] for task, mask in self.present.items()}
        return Batch(inputs, targets, present, index)

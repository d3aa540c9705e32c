"""Inputs that are prepared when a batch asks for them."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from datamodules.augment import Maps
from datamodules.columns import Column, take
from datamodules.modalities.base import Modality, Store
from datamodules.table import Table
from pipeline.errors import PollinateError


class StreamedStore(Store):
    """Prepares the chosen rows' cells, and forgets them.

    Args:
        modality: how.
        column: N raw cells, read when they are asked for.
        has: (N,) bool.
        table: says where a row is.
    """

    def __init__(self, modality: Modality, column: Column, has: np.ndarray, table: Table) -> None:
        self.modality = modality
        self.column = column
        self.has = has
        self.table = table
        self._last: tuple[bytes, Store] | None = None  # a batch asks for its words, too

    def rows(self, rows: np.ndarray) -> Tensor:
        """Return the chosen rows: (n, ...)."""
        return self._prepared(rows).rows(np.arange(len(rows)))

    def augmented(
        self, rows: np.ndarray, seed: int, passes: np.ndarray, numbers: np.ndarray | None = None
    ) -> Tensor:
        """Return the chosen rows augmented, as a store of all rows would: (n, ...)."""
        own = rows if numbers is None else numbers
        return self._prepared(rows).augmented(np.arange(len(rows)), seed, passes, own)

    def moved(
        self,
        rows: np.ndarray,
        seed: int,
        passes: np.ndarray,
        maps: Maps,
        numbers: np.ndarray | None = None,
    ) -> tuple[Tensor, Maps]:
        """Return the chosen rows augmented, and the maps on them."""
        own = rows if numbers is None else numbers
        return self._prepared(rows).moved(np.arange(len(rows)), seed, passes, maps, own)

    def words(self, rows: np.ndarray) -> Tensor | None:
        """Return ``Batch.words`` of the chosen rows."""
        return self._prepared(rows).words(np.arange(len(rows)))

    def _prepared(self, rows: np.ndarray) -> Store:
        key = rows.tobytes()
        if self._last is None or self._last[0] != key:
            prepared = self.modality.prepare(list(take(self.column, rows)))
            for place, error in prepared.errors.items():
                where = self.table.place(int(rows[place]))
                raise PollinateError(
                    f"{where}: {error}; rows that are streamed can't be left out: mend it"
                )
            self._last = key, prepared.store
        return self._last[1]

"""Rows of different lengths in one flat array, in memory or mapped into it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np


@dataclass
class Ragged:
    """Row i is ``flat[starts[i] : starts[i + 1]]``.

    flat: (sum of lengths, ...).
    starts: (N + 1,) int64, ascending from 0.
    """

    flat: np.ndarray
    starts: np.ndarray

    def __len__(self) -> int:
        """Return the number of rows N."""
        return len(self.starts) - 1

    def __getitem__(self, row: int) -> np.ndarray:
        """Return row ``row`` (length, ...)."""
        found: np.ndarray = self.flat[self.starts[row] : self.starts[row + 1]]
        return found

    def lengths(self) -> np.ndarray:
        """Return the rows' lengths: (N,) int64."""
        return np.diff(self.starts)

    @classmethod
    def of(
        cls, rows: Iterable[np.ndarray], dtype: np.dtype | type, inner: tuple[int, ...] = ()
    ) -> Ragged:
        """Put rows (length, *inner) behind each other."""
        parts = [np.empty((0, *inner), dtype), *(np.asarray(row, dtype) for row in rows)]
        lengths = [len(part) for part in parts]
        return cls(np.concatenate(parts), np.cumsum(lengths, dtype=np.int64))

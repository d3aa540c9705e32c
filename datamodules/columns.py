"""Columns: how rows are held before they become tensors."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

Column = Sequence[Any] | np.ndarray  # n values
Columns = Mapping[str, Column]  # {name: column}, all of one length


class Lazy(Sequence[Any]):
    """Values that are read when they are asked for, many at a time.

    Args:
        length: n.
        read: (k,) row numbers -> their k values.
        rows: the rows meant, in order; default: all.
    """

    CHUNK = 1024  # rows that are read at a time

    def __init__(
        self,
        length: int,
        read: Callable[[np.ndarray], Sequence[Any]],
        rows: np.ndarray | None = None,
    ) -> None:
        self.read = read
        self.chosen = rows
        self.length = length if rows is None else len(rows)

    def __len__(self) -> int:
        """Return the number of values."""
        return self.length

    def __getitem__(self, place: Any) -> Any:
        """Return one value, or a list for a slice."""
        if isinstance(place, slice):
            return list(self.read(self._rows(np.arange(*place.indices(self.length)))))
        return self.read(self._rows(np.array([range(self.length)[place]])))[0]

    def __iter__(self) -> Iterator[Any]:
        """Yield all values, a chunk in memory at a time."""
        for start in range(0, self.length, self.CHUNK):
            yield from self[start : start + self.CHUNK]

    def take(self, rows: np.ndarray) -> Lazy:
        """Return the chosen values, not read yet."""
        return Lazy(self.length, self.read, self._rows(rows))

    def _rows(self, places: np.ndarray) -> np.ndarray:
        return places if self.chosen is None else self.chosen[places]


def combined(columns: Sequence[Column], make: Callable[..., Any]) -> Lazy:
    """Return a column whose cells are ``make(cell of the first, cell of the second, ...)``."""

    def read(rows: np.ndarray) -> list[Any]:
        return [make(*cells) for cells in zip(*(take(c, rows) for c in columns), strict=True)]

    return Lazy(len(columns[0]), read)


def take(column: Column, rows: np.ndarray) -> Column:
    """Return the chosen rows (n,) of a column, of the same kind."""
    if isinstance(column, Lazy):
        return column.take(rows)
    return column[rows] if isinstance(column, np.ndarray) else [column[row] for row in rows]


def digest(columns: Columns) -> str:
    """Return a short fingerprint of the content: 12 hexadecimal digits."""
    state = hashlib.sha256()
    for name in sorted(columns):
        values = columns[name]
        state.update(name.encode())
        if isinstance(values, np.ndarray) and values.dtype != object:
            state.update(values.tobytes())
        else:
            state.update(b"\x1f".join(map(_bytes, values)))
    return state.hexdigest()[:12]


def _bytes(value: Any) -> bytes:
    """Return a value's content; an array's text would leave out the middle of large ones."""
    return value.tobytes() if isinstance(value, np.ndarray) else str(value).encode()

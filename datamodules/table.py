"""Raw rows: columns, read when they are asked for, and the table that a source gives."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

Column = Sequence[Any] | np.ndarray  # n values
Columns = Mapping[str, Column]  # {name: column}, all of one length


class LazyColumn(Sequence[Any]):
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
        return self.length

    def __getitem__(self, place: Any) -> Any:
        """Return one value, or a list for a slice."""
        if isinstance(place, slice):
            return list(self.read(self._rows(np.arange(*place.indices(self.length)))))
        return self.read(self._rows(np.array([range(self.length)[place]])))[0]

    def __iter__(self) -> Iterator[Any]:
        for start in range(0, self.length, self.CHUNK):
            yield from self[start : start + self.CHUNK]

    def take(self, rows: np.ndarray) -> LazyColumn:
        """Return the chosen values, not read yet."""
        return LazyColumn(self.length, self.read, self._rows(rows))

    def _rows(self, places: np.ndarray) -> np.ndarray:
        return places if self.chosen is None else self.chosen[places]


def combine_columns(columns: Sequence[Column], make: Callable[..., Any]) -> LazyColumn:
    """Return a column whose cells are ``make(cell of the first, cell of the second, ...)``."""

    def read(rows: np.ndarray) -> list[Any]:
        return [make(*cells) for cells in zip(*(take(c, rows) for c in columns), strict=True)]

    return LazyColumn(len(columns[0]), read)


def stack_columns(columns: Sequence[Column]) -> Column:
    """Return one column of the rows of all, an array where they are arrays of one kind."""
    arrays = [column for column in columns if isinstance(column, np.ndarray)]
    kinds = {(array.dtype, array.shape[1:]) for array in arrays}
    if len(arrays) == len(columns) and len(kinds) == 1:
        return np.concatenate(arrays)
    starts = np.cumsum([0, *map(len, columns)])

    def read(rows: np.ndarray) -> list[Any]:
        part = np.searchsorted(starts, rows, side="right") - 1
        found: list[Any] = [None] * len(rows)
        for number in np.unique(part):
            places = np.flatnonzero(part == number)
            cells = take(columns[number], rows[places] - starts[number])
            for place, cell in zip(places.tolist(), cells, strict=True):
                found[place] = cell
        return found

    return LazyColumn(int(starts[-1]), read)


def take(column: Column, rows: np.ndarray) -> Column:
    """Return the chosen rows (n,) of a column, of the same kind."""
    if isinstance(column, LazyColumn):
        return column.take(rows)
    return column[rows] if isinstance(column, np.ndarray) else [column[row] for row in rows]


def columns_digest(columns: Columns) -> str:
    """Return a short fingerprint of the content: 12 hexadecimal digits."""
    state = hashlib.sha256()
    for name in sorted(columns):
        values = columns[name]
        state.update(name.encode())
        if isinstance(values, np.ndarray) and values.dtype != object:
            state.update(values.tobytes())
        else:
            state.update(b"\x1f".join(map(content, values)))
    return state.hexdigest()[:12]


def content(value: Any) -> bytes:
    """Return the bytes that two cells share if they hold the same.

    An array's text would leave out the middle of large ones, and an object's its place in memory.
    """
    if isinstance(value, bytes):
        return value
    if isinstance(value, Tensor):
        value = (value.float() if value.dtype == torch.bfloat16 else value).detach().cpu().numpy()
    if isinstance(value, np.ndarray) and value.dtype != object:
        return value.tobytes()
    if isinstance(value, Image.Image):
        return f"{value.mode}{value.size}".encode() + value.tobytes()
    if isinstance(value, Mapping):
        return b"\x1e".join(content(one) for item in value.items() for one in item)
    if isinstance(value, list | tuple | np.ndarray):
        return b"\x1e".join(map(content, value))
    kind = type(value)
    if kind.__str__ is object.__str__ and kind.__repr__ is object.__repr__:  # type: ignore[comparison-overlap]  # of any class
        return kind.__qualname__.encode()
    return str(value).encode(errors="surrogatepass")


def written(value: Any) -> str:
    """Return a number or a time as text, the same whatever type a file keeps it in.

    A whole number that is kept with a point reads like the number, a day like one without a time.
    """
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    if isinstance(value, datetime) and value.tzinfo is None and value.time() == time():
        return value.date().isoformat()
    return str(value)


SPLIT_COLUMN = "__split__"  # the column that says which split's file a row comes from
ORIGIN_COLUMNS, HAS_PREFIX = ("__file__", "__line__"), "__has__"  # columns of our own in the cache


def as_text(value: Any) -> str:
    """Return a cell as text; an empty cell is an empty text, bytes are UTF-8."""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    missing = value is None or (isinstance(value, float) and value != value)
    if isinstance(value, list):
        return " ".join(map(written, value))
    return "" if missing else written(value)


def row_number(row: int) -> str:
    """Say where a row is, for people: counted from 1."""
    return f"row {row + 1}"


def nothing_to_release() -> None:
    """Leave what is in memory there."""


@dataclass
class SourceTable:
    """Columns of one length, in memory or mapped into it.

    columns: {name: N values}; an empty cell is None.
    digest: of the content, so that a change is noticed.
    bad: {row: why it can't be read}; the row's cells are empty.
    place: says where a row is, for people: file and line.
    folder: relative paths of pictures and recordings begin here and stay below it; None: there are
        no paths.
    anywhere: whether paths may lead anywhere, as those that come from a user's own Python; relative
        ones begin in the working directory.
    parts: the tables that this one was put together of, in order; their folders count.
    partial: {column: which parts lack it}, which therefore is none of the table's.
    unread: {column: why it isn't read}, an empty text where nobody asked for it.
    doubts: {row: why it may not be what it seems to be}, of the first of ``doubtful`` rows.
    mapped: whether the cells are read from disk when they are asked for, so that what is made of
        them should be kept there, too.
    streamed: {column: (N,) bool, True where the cell isn't empty} of columns that stay in their
        files; inputs made of them are prepared when a batch asks for them.
    release: gives back the memory of what was read so far, if it can be read again.
    notes: what a user should know of what was read, and what wasn't.
    """

    columns: Columns
    digest: str
    bad: Mapping[int, str] = field(default_factory=dict)
    place: Callable[[int], str] = row_number
    folder: Path | None = None
    anywhere: bool = False
    parts: Sequence[SourceTable] = ()
    partial: Mapping[str, str] = field(default_factory=dict)
    unread: Mapping[str, str] = field(default_factory=dict)
    doubts: Mapping[int, str] = field(default_factory=dict)
    doubtful: int = 0
    mapped: bool = False
    streamed: Mapping[str, np.ndarray] = field(default_factory=dict)
    release: Callable[[], None] = nothing_to_release
    notes: Sequence[str] = ()

    @property
    def has_paths(self) -> bool:
        """Whether cells may be paths of files."""
        own = self.folder is not None or self.anywhere
        return own or any(part.has_paths for part in self.parts)

    @property
    def names(self) -> list[str]:
        """The columns that a user knows."""
        names = [*self.columns, *(name for name in self.unread if name not in self.columns)]
        return [name for name in names if name != SPLIT_COLUMN]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

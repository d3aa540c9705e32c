"""A data set's rows as its source gives them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from datamodules.columns import Columns

SPLIT = "__split__"  # the column that says which split's file a row comes from


def numbered(row: int) -> str:
    """Say where a row is, for people: counted from 1."""
    return f"row {row + 1}"


def nothing_to_release() -> None:
    """Leave what is in memory there."""


@dataclass
class Table:
    """Columns of one length, in memory or mapped into it.

    columns: {name: N values}; an empty cell is None.
    digest: of the content, so that a change is noticed.
    bad: {row: why it can't be read}; the row's cells are empty.
    place: says where a row is, for people: file and line.
    folder: relative paths of pictures and recordings begin here and stay below it; None: there are
        no paths.
    mapped: whether the cells are read from disk when they are asked for, so that what is made of
        them should be kept there, too.
    streamed: {column: (N,) bool, True where the cell isn't empty} of columns that stay in their
        files; inputs made of them are prepared when a batch asks for them.
    release: gives back the memory of what was read so far, if it can be read again.
    """

    columns: Columns
    digest: str
    bad: Mapping[int, str] = field(default_factory=dict)
    place: Callable[[int], str] = numbered
    folder: Path | None = None
    mapped: bool = False
    streamed: Mapping[str, np.ndarray] = field(default_factory=dict)
    release: Callable[[], None] = nothing_to_release

    @property
    def names(self) -> list[str]:
        """The columns that a user knows."""
        return [name for name in self.columns if name != SPLIT]

    def __len__(self) -> int:
        """Return the number of rows N."""
        return len(next(iter(self.columns.values()), ()))

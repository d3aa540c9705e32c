"""Columns: how rows are held in memory before they become tensors."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Column = Sequence[Any] | np.ndarray  # n values
Columns = Mapping[str, Column]  # {name: column}, all of one length


def take(column: Column, rows: np.ndarray) -> Column:
    """Return the chosen rows (n,) of a column, of the same kind."""
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

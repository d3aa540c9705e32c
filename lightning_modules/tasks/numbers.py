"""Numbers in cells."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import numpy as np


def number(cell: Any) -> float | None:
    """Return a cell's number, None for an empty cell.

    Raises:
        ValueError: it is text that is no number.
    """
    if cell is None or (isinstance(cell, str) and not cell.strip()):
        return None
    if isinstance(cell, bool | np.bool_):
        return float(cell)
    if isinstance(cell, str | int | float | np.number | Decimal):
        return float(cell)
    raise ValueError(cell)


def number_problem(cell: Any) -> str:
    """Say what is wrong with a cell as a number; nothing is an empty text."""
    try:
        value = number(cell)
    except (ValueError, OverflowError):
        comma = isinstance(cell, str) and "," in cell
        advice = "write 3.5, not 3,5" if comma else "for words use type: classification"
        return f"must be a number, got {cell!r:.40}; {advice}"
    if value is not None and not math.isfinite(value):
        return f"must be finite, got {value}; leave the cell empty if the row has no label"
    return ""

"""A data set's raw cells for each modality, from the columns that a user names."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from datamodules.cache import stamp
from datamodules.columns import Column, Columns, Lazy, combined
from datamodules.media import located
from datamodules.table import Table

# a column; two columns, a pair of texts; or {array: column, rate: column or number} for audio
Given = str | Sequence[str] | Mapping[str, Any]


def columns_named(given: Given) -> list[str]:
    """Return the columns that an input or a target is made from."""
    if isinstance(given, str):
        return [given]
    names = given.values() if isinstance(given, Mapping) else given
    return [name for name in names if isinstance(name, str)]


def input_cells(inputs: Mapping[str, Given], table: Table) -> dict[str, Column]:
    """Return {modality: N raw cells}: texts, or contents, paths and arrays; None where empty."""
    found: dict[str, Column] = {}
    for modality, given in inputs.items():
        column = cells(given, table.columns)
        is_text = modality == "text"
        found[modality] = column if is_text else media(column, table.folder)
    return found


def cells(given: Given, columns: Columns) -> Column:
    """Return a column, or several as one of tuples."""
    if isinstance(given, str):
        return columns[given]
    if isinstance(given, Mapping):
        rate = given["rate"]
        if isinstance(rate, str):
            return combined([columns[given["array"]], columns[rate]], sound)
        return combined([columns[given["array"]]], partial(sound, rate=rate))
    return combined([columns[name] for name in given], pair)


def target_cells(target: str | Sequence[str] | Mapping[str, str], columns: Columns) -> Column:
    """Return a target's column, or several as one of {column: cell}."""
    if isinstance(target, str):
        return columns[target]
    names = list(target)
    return combined([columns[n] for n in names], lambda *row: dict(zip(names, row, strict=True)))


def input_key(modality: str, given: Given, column: Column, table: Table) -> list[Any]:
    """Return plain values that change when an input's cells, or the files they name, do."""
    state = sha256()
    if modality != "text" and isinstance(column, Lazy):
        for cell in column:
            if isinstance(cell, Path) and cell.is_file():
                state.update(json.dumps(stamp(cell)).encode())
    plain = dict(given) if isinstance(given, Mapping) else given
    return [table.digest, modality, plain, state.hexdigest()]


def paired(inputs: Mapping[str, Column], modalities: Sequence[str]) -> Column:
    """Return True for rows that have all these modalities, None for the others."""

    def both(*row: Any) -> bool | None:
        empty = any(cell is None or (isinstance(cell, str) and not cell.strip()) for cell in row)
        return None if empty else True

    return combined([inputs[name] for name in modalities], both)


def media(column: Column, folder: Path | None) -> Column:
    """Return pictures or recordings with their paths resolved; arrays are left as they are."""
    if not isinstance(column, list) and getattr(column, "dtype", None) is not None:
        return column
    return combined([column], partial(located, folder=folder))


def pair(first: Any, second: Any) -> tuple[Any, Any] | None:
    """Return two texts as a pair, None if both are empty."""
    return None if first is None and second is None else (first, second)


def sound(array: Any, rate: Any) -> tuple[Any, Any] | None:
    """Return samples and their rate, None if there are none."""
    return None if array is None else (array, rate)

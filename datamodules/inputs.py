"""A data set's raw cells for each modality, from the columns that a user names."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.cache import file_stamp
from datamodules.prompts import Prompt, is_textual
from datamodules.table import (
    Column,
    Columns,
    LazyColumn,
    SourceTable,
    combine_columns,
    content,
    stack_columns,
    take,
)
from pollinate.errors import PollinateError

MAX_HASHED_BYTES = 4 << 30  # of files that are read to compare them


@dataclass(frozen=True)
class UnreadableCell:
    """A cell that can't be used, and why."""

    reason: str


def resolve_path(cell: Any, folder: Path | None, anywhere: bool = False) -> Any:
    """Return a picture's or recording's content, path or array; None for an empty cell.

    Args:
        cell: content; path; array; or {bytes, path}, as Hugging Face's data sets have them.
        folder: a path is relative to it, and stays below it; None: there can be no paths.
        anywhere: whether a path may lead anywhere; it is relative to the working directory.
    """
    if isinstance(cell, dict) and "array" not in cell and ("bytes" in cell or "path" in cell):
        cell = cell.get("bytes") or cell.get("path")
    if not isinstance(cell, str):
        return cell
    if not cell.strip():
        return None
    if anywhere and "\0" not in cell:
        return Path(cell).expanduser().absolute()
    if folder is None or "\0" in cell:
        raise PollinateError(f"must be a file's content or its path, got {cell!r:.40}")
    path = without_links(folder / cell)
    if not path.is_relative_to(resolved_folder(folder)):
        raise PollinateError(f"the path must stay below {folder}, got {cell}; move the file there")
    return path


def without_links(path: Path) -> Path:
    """Return what ``os.path.realpath`` does, which looks at every folder on the way each time."""
    direct = resolved_folder(path.parent) / path.name
    return Path(os.path.realpath(path)) if path.name == ".." or direct.is_symlink() else direct


@lru_cache(maxsize=4096)
def resolved_folder(folder: Path) -> Path:
    """Return a folder without links; asked for once a folder, not once a cell."""
    return folder.resolve()


def resolve_or_unreadable(cell: Any, folder: Path | None, anywhere: bool = False) -> Any:
    """Return what ``resolve_path`` does, an ``UnreadableCell`` where it raises."""
    try:
        return resolve_path(cell, folder, anywhere)
    except PollinateError as error:
        outside = isinstance(cell, str) and folder is not None
        return UnreadableCell(f"{error}, or set the source's folder" if outside else str(error))


TEMPLATE = "prompt"  # key of a text with columns between braces
# a column; two columns, a pair of texts; {array: column, rate: column or number} for audio; or
# {prompt: text with columns between braces}
InputColumns = str | Sequence[str] | Mapping[str, Any]


def columns_named(given: InputColumns) -> list[str]:
    if isinstance(given, str):
        return [given]
    if isinstance(given, Mapping) and TEMPLATE in given:
        return Prompt(given[TEMPLATE]).columns
    names = given.values() if isinstance(given, Mapping) else given
    return [name for name in names if isinstance(name, str)]


def input_cells(inputs: Mapping[str, InputColumns], table: SourceTable) -> dict[str, Column]:
    """Return {modality: N raw cells}: texts, or contents, paths and arrays; None where empty."""
    found: dict[str, Column] = {}
    for modality, given in inputs.items():
        column = column_cells(given, table.columns)
        found[modality] = column if is_textual(modality) else resolve_media(column, table)
    return found


def column_cells(given: InputColumns, columns: Columns) -> Column:
    if isinstance(given, str):
        return columns[given]
    if isinstance(given, Mapping) and TEMPLATE in given:
        return Prompt(given[TEMPLATE]).cells(columns)
    if isinstance(given, Mapping):
        rate = given["rate"]
        if isinstance(rate, str):
            return combine_columns([columns[given["array"]], columns[rate]], audio_samples)
        return combine_columns([columns[given["array"]]], partial(audio_samples, rate=rate))
    return combine_columns([columns[name] for name in given], text_pair)


def target_cells(target: str | Sequence[str] | Mapping[str, str], columns: Columns) -> Column:
    """Return a target's column, or several as one of {column: cell}."""
    if isinstance(target, str):
        return columns[target]
    names = list(target)
    return combine_columns(
        [columns[n] for n in names], lambda *row: dict(zip(names, row, strict=True))
    )


def input_key(modality: str, given: InputColumns, column: Column, table: SourceTable) -> list[Any]:
    """Return plain values that change when an input's cells, or the files they name, do."""
    state = sha256()
    if not is_textual(modality) and isinstance(column, LazyColumn):
        for cell in column:
            if isinstance(cell, Path) and cell.is_file():
                state.update(json.dumps(file_stamp(cell)).encode())
    plain = dict(given) if isinstance(given, Mapping) else given
    return [table.digest, modality, plain, state.hexdigest()]


def hash_rows(inputs: Mapping[str, Column]) -> np.ndarray:
    """Return a number for each row that is the same for the same inputs: (N,) uint64.

    Files are compared by content. Different inputs share a number with probability 2^-64.
    """
    parts = [
        np.fromiter((cell_hash(cell) for cell in column), dtype=np.uint64, count=len(column))
        for _, column in sorted(inputs.items())
    ]
    found = parts[0]
    for part in parts[1:]:
        found = found * np.uint64(0x9E3779B97F4A7C15) + part  # modulo 2^64, order matters
    return found


def cell_hash(cell: Any) -> int:
    """Return 64 bits of a cell's content."""
    return int.from_bytes(blake2b(cell_bytes(cell), digest_size=8).digest(), "little")


def cell_bytes(cell: Any) -> bytes:
    """Return a cell as bytes: a file's content for its path."""
    return cell.read_bytes() if isinstance(cell, Path) and cell.is_file() else content(cell)


def bytes_on_disk(inputs: Mapping[str, Column]) -> int:
    return sum(
        cell.stat().st_size
        for modality, column in inputs.items()
        if modality != "text" and not isinstance(column, np.ndarray)
        for cell in column
        if isinstance(cell, Path) and cell.is_file()
    )


def has_all_modalities(inputs: Mapping[str, Column], modalities: Sequence[str]) -> Column:
    """Return True for rows that have all these modalities, None for the others."""

    def both(*row: Any) -> bool | None:
        empty = any(cell is None or (isinstance(cell, str) and not cell.strip()) for cell in row)
        return None if empty else True

    return combine_columns([inputs[name] for name in modalities], both)


def resolve_media(column: Column, table: SourceTable) -> Column:
    """Return pictures or recordings with their paths resolved; arrays are left as they are."""
    if not isinstance(column, list) and getattr(column, "dtype", None) is not None:
        return column
    if table.parts:
        ends = np.cumsum([len(part) for part in table.parts])
        rows = [np.arange(end - len(p), end) for p, end in zip(table.parts, ends, strict=True)]
        pairs = zip(table.parts, rows, strict=True)
        return stack_columns([resolve_media(take(column, own), part) for part, own in pairs])
    resolve = partial(resolve_or_unreadable, folder=table.folder, anywhere=table.anywhere)
    return combine_columns([column], resolve)


def text_pair(first: Any, second: Any) -> tuple[Any, Any] | None:
    """Return two texts as a pair, None if both are empty."""
    return None if first is None and second is None else (first, second)


def audio_samples(array: Any, rate: Any) -> tuple[Any, Any] | None:
    return None if array is None else (array, rate)

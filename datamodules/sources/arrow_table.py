"""Tables in Arrow files: column types, writing, and mapping into memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]  # no types

from datamodules.cache import content_digest
from datamodules.progress_bar import track
from datamodules.sources.row_files import FileRow, RowFile
from datamodules.table import ORIGIN_COLUMNS, SPLIT_COLUMN, Column, LazyColumn, SourceTable
from pollinate.errors import PollinateError

if TYPE_CHECKING:
    from datasets import Dataset


NUMBERS = {bool: pa.bool_(), int: pa.int64(), float: pa.float64()}


class TypeInference:
    """What a column's values have in common; ``add`` them one by one, then ask for ``type``.

    Numbers of both kinds are float; values of different kinds, and objects, become text (JSON).
    """

    def __init__(self) -> None:
        self.found: set[Any] = set()

    def add(self, value: Any) -> None:
        """Take a value into account."""
        if value is not None:
            self.found.add(kind_of(value))

    @property
    def type(self) -> pa.DataType:
        """The narrowest type that holds them all."""
        lists = {found for found in self.found if isinstance(found, tuple)}
        if lists and lists == self.found:
            return pa.list_(narrowest({kind for found in lists for kind in found}))
        return pa.string() if lists else narrowest(self.found)


def kind_of(value: Any) -> Any:
    """Return a number's or text's Python type, for a list those of its items, else None."""
    if isinstance(value, list):
        return tuple({kind_of(item) for item in value if item is not None} or {float})
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 1 << 63:
        return str
    return type(value) if isinstance(value, bool | int | float | str) else None


def narrowest(kinds: set[Any]) -> pa.DataType:
    """Return the type for scalars of these kinds."""
    if kinds == {int, float}:
        return pa.float64()
    if len(kinds) == 1:
        (kind,) = kinds
        return NUMBERS.get(kind, pa.string())
    return pa.string()


def cast_value(value: Any, kind: pa.DataType) -> Any:
    if value is None:
        return None
    if pa.types.is_list(kind):
        return [cast_value(item, kind.value_type) for item in value]
    if pa.types.is_string(kind) and not isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if pa.types.is_floating(kind):
        return float(value)  # Arrow refuses whole numbers beyond 2^53 itself
    return value


def schema_of(rows: Iterable[Mapping[str, Any]]) -> pa.Schema:
    kinds: dict[str, TypeInference] = {}
    for row in rows:
        for name, value in row.items():
            kinds.setdefault(name, TypeInference()).add(value)
    return pa.schema([(name, kind.type) for name, kind in kinds.items()])


ROWS, ABOUT = "rows.arrow", "about.json"
FILE, LINE = ORIGIN_COLUMNS
CHUNK = 2048  # rows in memory at a time while a table is written
MOST_BAD = 10_000  # unreadable rows before reading is given up


def write_table(
    folder: Path,
    files: Sequence[tuple[str, RowFile]],
    schema: pa.Schema,
    options: Mapping[str, Any],
) -> None:
    """Copy rows of files into one Arrow file, with where each comes from.

    Args:
        folder: gets the files ``ROWS`` and ``ABOUT``.
        files: (split or "", file).
        schema: of the columns; a file may lack some.
        options: what, besides the files, the rows depend on; ``empty``: texts that stand for an
            empty cell.
    """
    empty = frozenset(options["empty"])
    full = schema.append(pa.field(FILE, pa.int32())).append(pa.field(LINE, pa.int64()))
    bad: dict[int, str] = {}
    count = 0
    with pa.OSFile(str(folder / ROWS), "wb") as sink, pa.ipc.new_stream(sink, full) as writer:
        for number, (_, file) in enumerate(files):
            for rows in track(file.chunks(CHUNK), f"reading {file.path.name}"):
                bad |= {count + place: row.error for place, row in enumerate(rows) if row.error}
                count += len(rows)
                cells = [{} if row.error else row.values for row in rows]
                writer.write_batch(
                    record_batch(rows, number, cell_arrays(cells, schema, empty), full)
                )
                if len(bad) > MOST_BAD:
                    raise PollinateError(
                        f"{file.path} has more than {MOST_BAD:,} rows that can't be read, the "
                        f"first: {file.unit} {rows[0].line}: {next(iter(bad.values()))}; is it "
                        "really a file of this kind?"
                    )
    (folder / ABOUT).write_text(json.dumps(table_facts(files, bad, options)), encoding="utf-8")


def cell_arrays(
    cells: Sequence[Mapping[str, Any]], schema: pa.Schema, empty: frozenset[str]
) -> list[pa.Array]:
    return [
        pa.array([as_cell(c.get(field.name), field.type, empty) for c in cells], field.type)
        for field in schema
    ]


def record_batch(
    rows: Sequence[FileRow], file: int, arrays: Sequence[pa.Array], full: pa.Schema
) -> pa.RecordBatch:
    """Return arrays with the rows' places behind them: the file's number and the line."""
    numbers = pa.array([file] * len(rows), pa.int32())
    lines = pa.array([row.line for row in rows], pa.int64())
    return pa.RecordBatch.from_arrays([*arrays, numbers, lines], schema=full)


def table_facts(
    files: Sequence[tuple[str, RowFile]], bad: Mapping[int, str], options: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "bad": list(bad.items()),
        "digest": content_digest([file.path for _, file in files], options),
        "files": [str(file.path) for _, file in files],
        "units": [file.unit for _, file in files],
        "splits": [split for split, _ in files],
    }


def as_cell(value: Any, kind: pa.DataType, empty: frozenset[str]) -> Any:
    """Return a value as the column holds it, None for a text that stands for an empty cell."""
    return None if isinstance(value, str) and value in empty else cast_value(value, kind)


def read_table(folder: Path, media: Path | None) -> SourceTable:
    from datasets import Dataset  # takes a second

    known = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    mapped = MappedDataset(partial(Dataset.from_file, str(folder / ROWS)))
    columns = mapped.columns()
    numbers, lines = columns.pop(FILE), columns.pop(LINE)
    splits = known["splits"]
    if any(splits):
        columns[SPLIT_COLUMN] = LazyColumn(len(numbers), partial(_splits, numbers, splits))
    files, units = known["files"], known["units"]

    def place(row: int) -> str:
        number = numbers[row]
        return f"{files[number]}, {units[number]} {lines[row]}"

    bad = dict(known["bad"])
    return SourceTable(
        columns, known["digest"], bad, place, media, mapped=True, release=mapped.release
    )


class MappedDataset:
    """A data set of Hugging Face, opened when it is read, and again when it is read after that.

    What was read of a mapped file counts as the process's memory until it is released.
    """

    def __init__(self, open: Callable[[], Dataset]) -> None:  # noqa: A002  # that is what it does
        self._open = open
        self._dataset: Dataset | None = None
        self._parts: dict[str, Dataset] = {}

    def columns(self) -> dict[str, Column]:
        dataset = self._opened()
        return {n: LazyColumn(len(dataset), partial(self._read, n)) for n in dataset.column_names}

    def release(self) -> None:
        """Close the files until something is read again."""
        self._dataset, self._parts = None, {}

    def _opened(self) -> Dataset:
        if self._dataset is None:
            self._dataset = self._open().with_format("arrow")
        return self._dataset

    def _read(self, name: str, rows: np.ndarray) -> list[Any]:
        if name not in self._parts:
            self._parts[name] = self._opened().select_columns([name])
        found: list[Any] = self._parts[name][rows].column(0).to_pylist()
        return found


def _splits(numbers: Column, splits: Sequence[str], rows: np.ndarray) -> list[str]:
    assert isinstance(numbers, LazyColumn)
    return [splits[number] for number in numbers.read(rows)]


def rows_of(files: Sequence[RowFile]) -> Iterator[dict[str, Any]]:
    """Yield the readable rows of files."""
    for file in files:
        for row in file.rows():
            if not row.error:
                yield row.values

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
from datamodules.sources.arrow_types import Types, cast_value, caster, unify_types
from datamodules.sources.class_names import class_names_of
from datamodules.sources.row_files import FileRow, RowFile, TableSchema
from datamodules.table import (
    ORIGIN_COLUMNS,
    SPLIT_COLUMN,
    Column,
    LazyColumn,
    SourceTable,
    combine_columns,
    stack_columns,
)
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


def schema_of(rows: Iterable[Mapping[str, Any]]) -> TableSchema:
    """Return the narrowest type for each key that any row has."""
    kinds: dict[str, TypeInference] = {}
    for row in rows:
        for name, value in row.items():
            kinds.setdefault(name, TypeInference()).add(value)
    return TableSchema({name: kind.type for name, kind in kinds.items()})


ROWS, ABOUT = "rows.arrow", "about.json"
FILE, LINE = ORIGIN_COLUMNS
CHUNK = 2048  # rows in memory at a time while a table is written
MOST_BAD = 10_000  # unreadable rows before reading is given up
MOST_DOUBTS = 8  # doubtful rows that are remembered


class TableFacts:
    """What is known of a table besides its cells, gathered while its files are read.

    Args:
        files: (split or "", file).
        schema: of the columns.
        options: what, besides the files, the rows depend on; ``empty``: texts that stand for an
            empty cell.
    """

    def __init__(
        self,
        files: Sequence[tuple[str, RowFile]],
        schema: TableSchema,
        options: Mapping[str, Any],
    ) -> None:
        self.files, self.schema, self.options = files, schema, options
        self.empty = frozenset(options["empty"])
        self.bad: dict[int, str] = {}
        self.doubts: dict[int, str] = {}
        self.doubtful = 0
        self.count = 0

    def add(self, file: RowFile, rows: Sequence[FileRow]) -> None:
        """Take the next rows into account.

        Raises:
            PollinateError: there are too many rows that can't be read.
        """
        for number, row in enumerate(rows, start=self.count):
            if row.error:
                self.bad[number] = row.error
            elif row.doubt:
                self.doubtful += 1
                if len(self.doubts) < MOST_DOUBTS:
                    self.doubts[number] = row.doubt
        self.count += len(rows)
        if len(self.bad) > MOST_BAD:
            raise PollinateError(
                f"{file.path} has more than {MOST_BAD:,} rows that can't be read, the "
                f"first: {file.unit} {rows[0].line}: {next(iter(self.bad.values()))}; is it "
                "really a file of this kind?"
            )

    def write(self, folder: Path, **more: Any) -> None:
        """Keep everything in the file ``ABOUT``."""
        facts = {
            "bad": list(self.bad.items()),
            "doubts": list(self.doubts.items()),
            "doubtful": self.doubtful,
            "unread": self.schema.unread,
            "count": self.count,
            "digest": content_digest([file.path for _, file in self.files], self.options),
            "files": [str(file.path) for _, file in self.files],
            "units": [file.unit for _, file in self.files],
            "splits": [split for split, _ in self.files],
        }
        (folder / ABOUT).write_text(json.dumps(facts | more), encoding="utf-8")


def write_table(
    folder: Path,
    files: Sequence[tuple[str, RowFile]],
    schema: TableSchema,
    options: Mapping[str, Any],
) -> None:
    """Copy rows of files into one Arrow file, with where each comes from.

    Args:
        folder: gets the files ``ROWS`` and ``ABOUT``.
        files: (split or "", file).
        schema: of the columns; a file may lack some.
        options: see ``TableFacts``.
    """
    facts = TableFacts(files, schema, options)
    fields = list(schema.types.items())
    full = pa.schema([*fields, (FILE, pa.int32()), (LINE, pa.int64())])
    with pa.OSFile(str(folder / ROWS), "wb") as sink, pa.ipc.new_stream(sink, full) as writer:
        for number, (_, file) in enumerate(files):
            for rows in track(file.chunks(CHUNK), f"reading {file.path.name}"):
                facts.add(file, rows)
                arrays = cell_arrays(rows, schema.types, facts.empty, file)
                writer.write_batch(record_batch(rows, number, arrays, full))
    facts.write(folder)


def cell_arrays(
    rows: Sequence[FileRow], types: Types, empty: frozenset[str], file: RowFile
) -> list[pa.Array]:
    """Return the cells of rows, a column each; those of rows that can't be read are empty.

    Raises:
        PollinateError: a cell would be another value in its column.
    """
    found = []
    for name, kind in types.items():
        cells = [None if row.error else row.values.get(name) for row in rows]
        try:
            found.append(pa.array([as_cell(cell, kind, empty) for cell in cells], kind))
        except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
            raise PollinateError(cell_problem(rows, name, kind, empty, file)) from error
    return found


def cell_problem(
    rows: Sequence[FileRow], name: str, kind: pa.DataType, empty: frozenset[str], file: RowFile
) -> str:
    """Say which cell doesn't fit into its column, and why."""
    for row in rows:
        try:
            pa.array([None if row.error else as_cell(row.values.get(name), kind, empty)], kind)
        except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
            where = f"{file.path}, {file.unit} {row.line}, column {name}"
            return f"{where}: {row.values[name]!r:.40} is no {kind}: {error}"
    return f"{file.path}: column {name} is no {kind}"


def record_batch(
    rows: Sequence[FileRow], file: int, arrays: Sequence[pa.Array], full: pa.Schema
) -> pa.RecordBatch:
    """Return arrays with the rows' places behind them: the file's number and the line."""
    numbers = pa.array([file] * len(rows), pa.int32())
    lines = pa.array([row.line for row in rows], pa.int64())
    return pa.RecordBatch.from_arrays([*arrays, numbers, lines], schema=full)


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

    return SourceTable(
        columns,
        known["digest"],
        dict(known["bad"]),
        place,
        media,
        unread=known["unread"],
        doubts=dict(known["doubts"]),
        doubtful=known["doubtful"],
        mapped=True,
        release=mapped.release,
    )


class MappedDataset:
    """A data set of Hugging Face, opened when it is read, and again when it is read after that.

    What was read of a mapped file counts as the process's memory until it is released. Numbers of
    classes are read as their names.
    """

    def __init__(self, open: Callable[[], Dataset]) -> None:  # noqa: A002  # that is what it does
        self._open = open
        self._dataset: Dataset | None = None
        self._parts: dict[str, Dataset] = {}
        self.names = class_names_of(self._opened().features.to_dict())

    def __len__(self) -> int:
        return len(self._opened())

    def types(self) -> dict[str, pa.DataType]:
        """Return {column: type of its cells}."""
        schema = self._opened().features.arrow_schema
        return {
            field.name: self.names[field.name].type() if field.name in self.names else field.type
            for field in schema
        }

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
        found = cells_of(self._parts[name][rows].column(0))
        naming = self.names.get(name)
        return found if naming is None else [naming(cell) for cell in found]


def concat_parts(
    parts: Sequence[tuple[str, MappedDataset]],
) -> tuple[dict[str, Column], dict[str, str]]:
    """Return ({column: cells of all parts}, {column: why it isn't read}).

    Args:
        parts: (what a part is called, its rows), at least one.
    """
    if len(parts) == 1:
        return parts[0][1].columns(), {}
    schema = unify_types([(name, part.types()) for name, part in parts])
    columns: dict[str, list[Column]] = {name: [] for name in schema.types}
    for _, part in parts:
        own, types = part.columns(), part.types()
        for name, kind in schema.types.items():
            cast = caster(types[name], kind)
            column = own[name]
            columns[name].append(column if cast is None else combine_columns([column], cast))
    return {name: stack_columns(own) for name, own in columns.items()}, schema.unread


def cells_of(column: pa.ChunkedArray) -> list[Any]:
    """Return a column's cells as Python has them; lists of lists of numbers are arrays.

    These keep the numbers' type, without which nobody knows what a picture's mean.
    """
    found: list[Any] = column.to_pylist()
    kind, depth = column.type, 0
    if isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    while (
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    ):
        kind, depth = kind.value_type, depth + 1
    if depth < 2 or not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        return found
    return [as_array(cell, kind.to_pandas_dtype()) for cell in found]


def as_array(cell: Any, dtype: Any) -> Any:
    """Return nested lists as an array, and as they are if they are empty or of several lengths."""
    try:
        return None if cell is None else np.array(cell, dtype)
    except (ValueError, TypeError):
        return cell


def _splits(numbers: Column, splits: Sequence[str], rows: np.ndarray) -> list[str]:
    assert isinstance(numbers, LazyColumn)
    return [splits[number] for number in numbers.read(rows)]


def rows_of(files: Sequence[RowFile]) -> Iterator[dict[str, Any]]:
    """Yield the readable rows of files."""
    for file in files:
        for row in file.rows():
            if not row.error:
                yield row.values

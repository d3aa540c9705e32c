"""Streaming: an index of the blocks of rows in files, which stay where they are."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]  # no types

from datamodules.progress_bar import track
from datamodules.sources.arrow_table import (
    ABOUT,
    FILE,
    LINE,
    ROWS,
    TableFacts,
    as_cell,
    cell_arrays,
    read_table,
    record_batch,
)
from datamodules.sources.arrow_types import Types
from datamodules.sources.row_files import FileRow, RowFile, TableSchema
from datamodules.table import HAS_PREFIX, LazyColumn, SourceTable

CACHED_BLOCKS = 256  # blocks in memory


class BlockReader:
    """Reads the blocks that an index names; those used last are kept.

    Args:
        paths: files.
        open: path -> its reader.
        index: (B, 3) int64: file, mark and first row of each block; rows are counted over all
            files.
        size: rows of all files.
        types: {column: its type} of those that are read.
        empty: texts that stand for an empty cell.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        open: Callable[[Path], RowFile],  # noqa: A002  # what it does
        index: np.ndarray,
        size: int,
        types: Types,
        empty: frozenset[str],
    ) -> None:
        self.paths = list(paths)
        self.open = open
        self.index = index
        self.firsts = index[:, 2]
        self.size = size
        self.types = dict(types)
        self.empty = empty
        self.reads = 0  # blocks that were read from files
        self.files: dict[int, RowFile] = {}
        self.blocks: OrderedDict[int, list[FileRow]] = OrderedDict()

    def column(self, name: str) -> LazyColumn:
        return LazyColumn(self.size, partial(self._cells, name))

    def _cells(self, name: str, rows: np.ndarray) -> list[Any]:
        cells = (self.row(int(row)).values.get(name) for row in rows)
        return [as_cell(cell, self.types[name], self.empty) for cell in cells]

    def row(self, number: int) -> FileRow:
        block = int(np.searchsorted(self.firsts, number, side="right")) - 1
        if block in self.blocks:
            self.blocks.move_to_end(block)
        else:
            self.blocks[block] = self._read(block)
            if len(self.blocks) > CACHED_BLOCKS:
                self.blocks.popitem(last=False)
        row = self.blocks[block][number - int(self.firsts[block])]
        return FileRow() if row.error else row

    def _read(self, block: int) -> list[FileRow]:
        self.reads += 1
        file, mark, first = (int(value) for value in self.index[block])
        last = self.size if block + 1 == len(self.index) else int(self.firsts[block + 1])
        if file not in self.files:
            self.files[file] = self.open(self.paths[file])
            self.files[file].wanted = set(self.types)
        return self.files[file].block(mark, last - first)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is open: a worker opens its own."""
        return {**self.__dict__, "files": {}, "blocks": OrderedDict()}


INDEX, STREAMED = "index.npy", "streamed.schema"


def has_name(column: str) -> str:
    """Return the name of the column that says whether a row has something in another."""
    return f"{HAS_PREFIX}{column}"


def write_index(
    folder: Path,
    files: Sequence[tuple[str, RowFile]],
    schema: TableSchema,
    streamed: Sequence[str],
    options: Mapping[str, Any],
) -> None:
    """Keep where each block of rows begins, and all columns but the streamed ones."""
    own = {name: kind for name, kind in schema.types.items() if name in streamed}
    small = {name: kind for name, kind in schema.types.items() if name not in streamed}
    facts = TableFacts(files, schema, options)
    flags = [(has_name(name), pa.bool_()) for name in own]
    full = pa.schema([*small.items(), *flags, (FILE, pa.int32()), (LINE, pa.int64())])
    index: list[tuple[int, int, int]] = []
    with pa.OSFile(str(folder / ROWS), "wb") as sink, pa.ipc.new_stream(sink, full) as writer:
        for number, (_, file) in enumerate(files):
            for mark, rows in track(file.blocks(), f"indexing {file.path.name}"):
                index.append((number, mark, facts.count))
                facts.add(file, rows)
                cells = [{} if row.error else row.values for row in rows]
                arrays = cell_arrays(rows, small, facts.empty, file)
                arrays += [pa.array([not blank(c.get(n), facts.empty) for c in cells]) for n in own]
                writer.write_batch(record_batch(rows, number, arrays, full))
    np.save(folder / INDEX, np.array(index, np.int64).reshape(-1, 3))
    (folder / STREAMED).write_bytes(pa.schema(list(own.items())).serialize())
    facts.write(folder)


def blank(value: Any, empty: frozenset[str]) -> bool:
    """Say whether a cell has nothing but white space."""
    return value is None or (isinstance(value, str) and (value in empty or not value.strip()))


def read_index(
    folder: Path,
    media: Path | None,
    open: Callable[[Path], RowFile],  # noqa: A002  # what it does
    empty: frozenset[str],
) -> SourceTable:
    """Return the table: the kept columns mapped into memory, the others read when asked for."""
    table = read_table(folder, media)
    known = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    paths = [Path(path) for path in known["files"]]
    schema = pa.ipc.read_schema(pa.py_buffer((folder / STREAMED).read_bytes()))
    types = {own.name: own.type for own in schema}
    reader = BlockReader(paths, open, np.load(folder / INDEX), known["count"], types, empty)
    columns = dict(table.columns)
    has = {name: np.asarray(list(columns.pop(has_name(name))), dtype=bool) for name in types}
    columns |= {name: reader.column(name) for name in types}
    table.columns, table.streamed, table.mapped = columns, has, False
    return table

"""Parquet files."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

from datamodules.sources.base import FileSource
from datamodules.sources.class_names import class_names_of, features_in
from datamodules.sources.row_files import BLOCK_ROWS, FileRow, RowFile, TableSchema, require_names
from pollinate.errors import PollinateError

BATCH = 256  # rows in memory at a time


class ParquetRows(RowFile):
    """A parquet file."""

    unit = "row"

    def __init__(self, path: Path) -> None:
        from pyarrow import ArrowException  # type: ignore[import-untyped]  # no types

        self.path = path
        try:
            file = self.open()
        except (ArrowException, OSError) as error:
            raise PollinateError(f"{path} is no parquet file: {error}") from error
        schema = file.schema_arrow
        self.columns = list(schema.names)
        require_names(path, self.columns, "rename one")
        self.names = class_names_of(features_in(schema.metadata))
        self.types = {
            own.name: self.names[own.name].type() if own.name in self.names else own.type
            for own in schema
        }
        self._under_way: tuple[int, int, Iterator[list[dict[str, Any]]]] | None = None
        self.binary = frozenset(c.name for c in schema if "binary" in str(c.type))

    @cached_property
    def count(self) -> int:
        """Number of rows, >= 0; the file's end says it."""
        return int(self.open().metadata.num_rows)

    def rows(self) -> Iterator[FileRow]:
        """Yield the rows; a damaged part ends it with an error."""
        number = 0
        for batch in self.batches():
            for values in self._values(batch):
                number += 1
                yield FileRow(values, line=number)

    def blocks(self) -> Iterator[tuple[int, list[FileRow]]]:
        """Yield (number of the first row, rows); no block lies across two row groups."""
        number = 0
        for group in range(self.open().metadata.num_row_groups):
            for values in self._group(group):
                rows = [FileRow(v, line=number + place) for place, v in enumerate(values, start=1)]
                yield number, rows
                number += len(rows)

    def block(self, mark: int, size: int) -> list[FileRow]:
        group = bisect_right(self.starts, mark) - 1
        if self._under_way is None or self._under_way[:2] != (group, mark):
            self._under_way = (group, mark, self._group(group))
            for _ in range((mark - self.starts[group]) // BLOCK_ROWS):  # not where a reader goes on
                next(self._under_way[2])
        found = next(self._under_way[2])
        self._under_way = (group, mark + len(found), self._under_way[2])
        return [FileRow(values, line=mark + place) for place, values in enumerate(found, start=1)]

    @cached_property
    def starts(self) -> list[int]:
        """First row of each row group."""
        about = self.open().metadata
        counts = [about.row_group(group).num_rows for group in range(about.num_row_groups)]
        return [0, *accumulate(counts)][:-1]

    def _group(self, group: int) -> Iterator[list[dict[str, Any]]]:
        """Yield a row group's rows, ``BLOCK_ROWS`` at a time; the last may be fewer."""
        from pyarrow import ArrowException

        try:
            rows: list[dict[str, Any]] = []
            chosen = self._chosen()
            for batch in self.open().iter_batches(BLOCK_ROWS, [group], columns=chosen):
                rows += self._values(batch)
                while len(rows) >= BLOCK_ROWS:
                    yield rows[:BLOCK_ROWS]
                    rows = rows[BLOCK_ROWS:]
            if rows:
                yield rows
        except (ArrowException, OSError) as error:
            raise PollinateError(f"{self.path} is damaged: {error}") from error

    def batches(self) -> Iterator[Any]:
        """Yield the rows as Arrow batches."""
        from pyarrow import ArrowException

        try:
            yield from self.open().iter_batches(BATCH, columns=self._chosen())
        except (ArrowException, OSError) as error:
            raise PollinateError(f"{self.path} is damaged: {error}") from error

    def _chosen(self) -> list[str] | None:
        return None if self.wanted is None else [c for c in self.columns if c in self.wanted]

    def _values(self, batch: Any) -> list[dict[str, Any]]:
        """Return a batch's rows, class numbers as names."""
        rows: list[dict[str, Any]] = batch.to_pylist()
        known = {name: naming for name, naming in self.names.items() if name in batch.schema.names}
        for values in rows if known else ():
            values.update({name: naming(values[name]) for name, naming in known.items()})
        return rows

    def open(self) -> Any:
        # takes a moment; other formats don't need it
        from pyarrow.parquet import ParquetFile  # type: ignore[import-untyped]  # no types

        return ParquetFile(self.path)


class Parquet(FileSource):
    """Parquet files, with the types that they have; numbers of classes are read as their names.

    A column has the narrowest type that holds the values of all files without loss.

    Args:
        path: a file, a pattern, a list of them, or {split: either}; all with the columns that are
            read.
        folder: where relative paths of pictures and recordings begin; default: the file's folder.
        empty: texts that stand for an empty cell, besides null and the empty text.

    Examples:
        >>> import pandas as pd, pollinate as po
        >>> frame = pd.DataFrame({"review": ["good tea", "bad tea"], "stars": [5, 1]})
        >>> frame.to_parquet("tea.parquet")
        >>> rows = po.sources.Parquet("tea.parquet").table()
        >>> rows.names, len(rows)
        (['review', 'stars'], 2)
    """

    format = "parquet"

    def open(self, path: Path) -> RowFile:
        """Return the reader of a file."""
        return ParquetRows(path)

    def schema(self, files: Sequence[RowFile]) -> TableSchema:
        """Return the types that hold the columns of all files."""
        # takes a moment; other formats don't need it
        from datamodules.sources.arrow_types import unify_types

        parts = [file for file in files if isinstance(file, ParquetRows)]
        return unify_types([(str(file.path), file.types) for file in parts])

"""Parquet files."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from datamodules.files.base import Row, RowFile
from pipeline.errors import PollinateError

BATCH = 256  # rows in memory at a time


class Parquet(RowFile):
    """A parquet file.

    Raises:
        PollinateError: it is none, or damaged.
    """

    unit = "row"

    def __init__(self, path: Path) -> None:
        from pyarrow import ArrowException  # type: ignore[import-untyped]  # no types

        self.path = path
        try:
            file = self.open()
        except (ArrowException, OSError) as error:
            raise PollinateError(f"{path} is no parquet file: {error}") from error
        self.schema = file.schema_arrow
        self.columns = list(self.schema.names)
        self.binary = frozenset(c.name for c in self.schema if "binary" in str(c.type))

    @cached_property
    def count(self) -> int:
        """Number of rows, >= 0; the file's end says it."""
        return int(self.open().metadata.num_rows)

    def rows(self) -> Iterator[Row]:
        """Yield the rows; a damaged part ends it with an error."""
        number = 0
        for batch in self.batches():
            for values in batch.to_pylist():
                number += 1
                yield Row(values, line=number)

    def batches(self) -> Iterator[Any]:
        """Yield the rows as Arrow batches.

        Raises:
            PollinateError: the file is damaged.
        """
        from pyarrow import ArrowException

        try:
            yield from self.open().iter_batches(BATCH)
        except (ArrowException, OSError) as error:
            raise PollinateError(f"{self.path} is damaged: {error}") from error

    def open(self) -> Any:
        """Return pyarrow's file."""
        # takes a moment; other formats don't need it
        from pyarrow.parquet import ParquetFile  # type: ignore[import-untyped]  # no types

        return ParquetFile(self.path)

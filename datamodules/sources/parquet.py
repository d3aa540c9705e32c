"""Parquet files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datamodules.files.base import RowFile
from datamodules.files.parquet_file import Parquet as ParquetFile
from datamodules.sources.delimited import require_same_columns
from datamodules.sources.file_source import FileSource


class Parquet(FileSource):
    """Parquet files, with the types that they have.

    Args:
        path: a file, a pattern, a list of them, or {split: either}; all with the same columns.
        folder: where relative paths of pictures and recordings begin; default: the file's folder.
        empty: texts that stand for an empty cell, besides null and the empty text.
    """

    def open(self, path: Path) -> RowFile:
        """Return the reader of a file."""
        return ParquetFile(path)

    def schema(self, files: Sequence[RowFile]) -> Any:
        """Return the first file's schema, whose columns all files have."""
        first, *others = files
        for other in others:
            require_same_columns(first, other)
        assert isinstance(first, ParquetFile)
        return first.schema.remove_metadata()

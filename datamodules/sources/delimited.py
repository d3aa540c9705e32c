"""CSV and TSV files."""

from __future__ import annotations

import codecs
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datamodules.files.base import RowFile
from datamodules.files.csv_file import Csv
from datamodules.sources.file_source import FileSource
from pipeline.errors import PollinateError, UsageError


class Delimited(FileSource):
    """CSV or TSV files with a header; every cell is text.

    Args:
        path: a file, a pattern, a list of them, or {split: either}; all with the same columns.
        delimiter: between cells, one character.
        encoding: of the files.
        folder: where relative paths of pictures and recordings begin; default: the file's folder.
        empty: texts that stand for an empty cell, besides the empty text.

    Raises:
        UsageError: delimiter isn't one character, or the encoding isn't known.
    """

    def __init__(
        self,
        path: str | Sequence[str] | Mapping[str, Any],
        delimiter: str = ",",
        encoding: str = "utf-8",
        folder: str | None = None,
        empty: Sequence[str] = (),
    ) -> None:
        super().__init__(path, folder, empty)
        if len(delimiter) != 1:
            raise UsageError(f"delimiter must be one character, got {delimiter!r}")
        self.delimiter = delimiter
        self.encoding = known_encoding(encoding)

    def open(self, path: Path) -> RowFile:
        """Return the reader of a file."""
        return Csv(path, self.delimiter, self.encoding)

    def schema(self, files: Sequence[RowFile]) -> Any:
        """Return text for every column."""
        import pyarrow as pa  # type: ignore[import-untyped]  # no types

        for file in files[1:]:
            require_same_columns(files[0], file)
        return pa.schema([(name, pa.string()) for name in files[0].columns])

    def options(self) -> dict[str, Any]:
        """Return what, besides the files, the rows depend on."""
        return {**super().options(), "delimiter": self.delimiter, "encoding": self.encoding}


def require_same_columns(first: RowFile, other: RowFile) -> None:
    """Check that two files have the same columns, in any order.

    Raises:
        PollinateError: they differ.
    """
    differing = sorted(set(first.columns) ^ set(other.columns))
    if differing:
        raise PollinateError(
            f"the files of a data set must have the same columns; {first.path} and {other.path} "
            f"differ in {', '.join(differing)}"
        )


def known_encoding(name: str) -> str:
    """Return the encoding's name.

    Raises:
        UsageError: Python knows none such.
    """
    try:
        return codecs.lookup(name).name
    except LookupError as error:
        raise UsageError(
            f"encoding must be one that Python knows (utf-8, latin-1, utf-16, gb18030), got {name}"
        ) from error

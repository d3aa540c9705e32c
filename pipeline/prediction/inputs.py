"""Rows to predict for, read a chunk at a time; each format is one small class."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pipeline.errors import PollinateError

IMAGES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})


@dataclass
class Row:
    """One row: {column: value}, or why it can't be read."""

    values: dict[str, Any] = field(default_factory=dict)
    error: str = ""


class Input(ABC):
    """A file or folder of rows.

    Attributes:
        path: of the file or folder.
        columns: names, in order.
        count: number of rows, >= 1.
        known: {modality: column} where the format itself says so.
        binary: columns that hold files' contents, which the output leaves out.
    """

    path: Path
    columns: list[str]
    count: int
    known: Mapping[str, str] = MappingProxyType({})
    binary: frozenset[str] = frozenset()

    @property
    def folder(self) -> Path:
        """Where relative paths of images begin."""
        return self.path.parent

    @abstractmethod
    def rows(self) -> Iterator[Row]:
        """Yield the rows in order."""

    def chunks(self, size: int) -> Iterator[list[Row]]:
        """Yield ``size`` rows at a time; the last chunk may have fewer."""
        rows = self.rows()
        while chunk := list(islice(rows, size)):
            yield chunk

    def require_rows(self) -> None:
        """Check that there is something to predict for."""
        if not self.count:
            raise PollinateError(f"input {self.path} must have at least one row, got none")


class TextLines(Input):
    """A text file, one text a line: the column ``text``."""

    known = MappingProxyType({"text": "text"})

    def __init__(self, path: Path) -> None:
        self.path = path
        self.columns = ["text"]
        self.count = sum(1 for _ in self.rows())
        self.require_rows()

    def rows(self) -> Iterator[Row]:
        """Yield the lines."""
        for line in utf8_lines(self.path):
            yield Row({"text": line.rstrip("\r\n")})


class JsonLines(Input):
    """One JSON object a line; the columns are all names that any of them has."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        names: dict[str, None] = {}
        for row in self.rows():
            names |= dict.fromkeys(row.values)
            self.count += 1
        self.columns = list(names)
        self.require_rows()

    def rows(self) -> Iterator[Row]:
        """Yield the objects; blank lines don't count."""
        for line in utf8_lines(self.path):
            if line.strip():
                yield self._row(line)

    def _row(self, line: str) -> Row:
        try:
            value = json.loads(line)
            json.dumps(value, ensure_ascii=False).encode()  # fails for half a surrogate pair
        except (ValueError, RecursionError) as error:
            return Row(error=f"the line is not valid JSON: {error}")
        if not isinstance(value, dict):
            return Row(error=f"a line must be a JSON object, got {line.strip()[:40]}")
        return Row(value)


class Parquet(Input):
    """A parquet file."""

    def __init__(self, path: Path) -> None:
        from pyarrow import ArrowException  # type: ignore[import-untyped]  # no types

        self.path = path
        try:
            file = self._open()
        except (ArrowException, OSError) as error:
            raise PollinateError(f"input {path} is no parquet file: {error}") from error
        self.columns = list(file.schema_arrow.names)
        self.binary = frozenset(c.name for c in file.schema_arrow if "binary" in str(c.type))
        self.count = file.metadata.num_rows
        self.require_rows()

    def rows(self) -> Iterator[Row]:
        """Yield the rows; a damaged part ends it with an error."""
        from pyarrow import ArrowException

        try:
            for batch in self._open().iter_batches(256):
                yield from (Row(values) for values in batch.to_pylist())
        except (ArrowException, OSError) as error:
            raise PollinateError(f"input {self.path} is damaged: {error}") from error

    def _open(self) -> Any:
        # takes a moment; other formats don't need it
        from pyarrow.parquet import ParquetFile  # type: ignore[import-untyped]  # no types

        return ParquetFile(self.path)


class Images(Input):
    """Image files, a single one or a folder's: the column ``path``, relative to the folder."""

    known = MappingProxyType({"image": "path"})

    def __init__(self, path: Path) -> None:
        self.path = path
        self.columns = ["path"]
        self.files = image_files(path) if path.is_dir() else [path]
        self.count = len(self.files)
        if not self.files:
            kinds = ", ".join(sorted(IMAGES))
            raise PollinateError(f"input {path} has no images at any depth; looked for {kinds}")

    @property
    def folder(self) -> Path:
        """The folder itself, or that of the single image."""
        return self.path if self.path.is_dir() else self.path.parent

    def rows(self) -> Iterator[Row]:
        """Yield the paths."""
        for file in self.files:
            yield Row({"path": str(file.relative_to(self.folder))})


def image_files(folder: Path) -> list[Path]:
    """Return the images at any depth, sorted; hidden files, some systems' notes, are left out."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGES and not path.name.startswith(".") and path.is_file()
    )


def utf8_lines(path: Path) -> Iterator[str]:
    """Yield lines with their ends, without the byte-order mark that some editors put first.

    Raises:
        PollinateError: a line is not UTF-8.
    """
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.encode()
            except UnicodeEncodeError as error:
                byte = ord(line[error.start]) & 0xFF  # how Python keeps what it can't decode
                raise PollinateError(
                    f"{path} must be UTF-8, found byte 0x{byte:02x} in line {number}; "
                    "save it as UTF-8"
                ) from error
            yield line

"""Files of rows, read one row after the other."""

from __future__ import annotations

import codecs
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pipeline.errors import PollinateError, UsageError

BLOCK = 256  # rows that are read at a time where a file is streamed


@dataclass
class Row:
    """One row: {column: value}, or why it can't be read.

    line: where it begins in the file, for people, counted from 1; a row number where a file has no
        lines.
    """

    values: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    line: int = 0


class RowFile(ABC):
    """A file or folder of rows.

    Attributes:
        path: of the file or folder.
        columns: names, in order.
        unit: what ``Row.line`` counts.
        known: {modality: column} where the format itself says so.
        binary: columns that hold files' contents.
    """

    path: Path
    columns: list[str]
    unit: str = "line"
    known: Mapping[str, str] = MappingProxyType({})
    binary: frozenset[str] = frozenset()

    @property
    def folder(self) -> Path:
        """Where relative paths of images begin."""
        return self.path.parent

    @cached_property
    def count(self) -> int:
        """Number of rows, >= 0; found by reading the file."""
        return sum(1 for _ in self.rows())

    @abstractmethod
    def rows(self) -> Iterator[Row]:
        """Yield the rows in order."""

    def chunks(self, size: int) -> Iterator[list[Row]]:
        """Yield ``size`` rows at a time; the last chunk may have fewer."""
        rows = self.rows()
        while chunk := list(islice(rows, size)):
            yield chunk

    def blocks(self) -> Iterator[tuple[int, list[Row]]]:
        """Yield (mark, at most ``BLOCK`` rows); ``block`` reads the rows at a mark again.

        Raises:
            UsageError: rows of this kind of file can't be read from the middle.
        """
        raise UsageError(
            f"{self.path} can't be streamed, it is read as a whole; leave streaming out, or "
            "convert it to parquet, csv or json lines"
        )

    def block(self, mark: int, size: int) -> list[Row]:
        """Return the ``size`` rows at a mark."""
        raise NotImplementedError

    def require_rows(self) -> None:
        """Check that there is any row.

        Raises:
            PollinateError: there is none.
        """
        if not self.count:
            raise PollinateError(f"{self.path} must have at least one row, got none")


def text_lines(path: Path, encoding: str = "utf-8") -> Iterator[str]:
    """Yield lines with their ends, without the byte-order mark that some editors put first.

    Raises:
        PollinateError: a line is not in this encoding.
    """
    name = "utf-8-sig" if encoding.lower().replace("_", "-") in ("utf-8", "utf8") else encoding
    with path.open(encoding=name, errors="surrogateescape", newline="") as file:
        number = 1
        try:
            for line in file:
                line.encode()  # fails for what could not be decoded
                yield line
                number += 1
        except UnicodeEncodeError as error:
            byte = ord(error.object[error.start]) & 0xFF  # how Python keeps what it can't decode
            raise PollinateError(wrong_encoding(path, encoding, f"0x{byte:02x}", number)) from error
        except UnicodeError as error:  # UTF-16 has no place for wrong bytes
            raise PollinateError(wrong_encoding(path, encoding, str(error), number)) from error


def require_utf8(path: Path, encoding: str) -> None:
    """Check that bytes can be counted.

    Raises:
        UsageError: the file is in another encoding.
    """
    if encoding.lower().replace("_", "-") not in ("utf-8", "utf8"):
        raise UsageError(f"{path} must be UTF-8 to be streamed, got {encoding}; convert it")


class ByteLines:
    """Lines of a UTF-8 file from a place on; ``place`` is where the next one begins.

    Args:
        path: of the file.
        place: in bytes; 0 is the beginning, before a byte-order mark.

    Raises:
        PollinateError: a line is not UTF-8.
    """

    def __init__(self, path: Path, place: int = 0) -> None:
        self.path = path
        self.file = path.open("rb")
        self.file.seek(place)
        self.place = place

    def __iter__(self) -> Iterator[str]:
        """Yield the lines with their ends."""
        with self.file:
            for number, line in enumerate(self.file, start=1):
                if not self.place:
                    self.place, line = len(line), line.removeprefix(codecs.BOM_UTF8)
                else:
                    self.place += len(line)
                try:
                    yield line.decode("utf-8")
                except UnicodeDecodeError as error:
                    byte = f"0x{line[error.start]:02x}"
                    raise PollinateError(
                        wrong_encoding(self.path, "utf-8", byte, number)
                    ) from error


def wrong_encoding(path: Path, encoding: str, found: str, line: int) -> str:
    """Say that a file is in another encoding."""
    name = encoding.upper()
    return (
        f"{path} must be {name}, found byte {found} in line {line}; save it as {name}, or say what "
        "it is: encoding=latin-1, utf-16, gb18030 ..."
    )

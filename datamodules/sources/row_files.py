"""Files that are read row by row: the contract, text files, folders of media."""

from __future__ import annotations

import codecs
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any

from datamodules.media_files import IMAGES, KINDS, SOUNDS, files_below
from pollinate.errors import PollinateError, UsageError

BLOCK_ROWS = 256  # rows that are read at a time where a file is streamed


@dataclass
class FileRow:
    """One row: {column: value}, or why it can't be read.

    line: where it begins in the file, for people, counted from 1; a row number where a file has no
        lines.
    doubt: why it may not be what it seems to be, though it can be read.
    """

    values: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    line: int = 0
    doubt: str = ""


@dataclass(frozen=True)
class TableSchema:
    """Columns of several files, by Arrow's types.

    types: {column: the type that holds it}; unread: {column: why it isn't read}, an empty text
        where nobody asked for it.
    """

    types: dict[str, Any]  # of Arrow, whose package takes long to import
    unread: dict[str, str] = field(default_factory=dict)

    def only(self, columns: Collection[str]) -> TableSchema:
        """Return the schema with these columns, at least one: without any there are no rows."""
        kept = {name: kind for name, kind in self.types.items() if name in columns}
        kept = kept or dict(list(self.types.items())[:1])
        others = dict.fromkeys((name for name in self.types if name not in kept), "")
        return TableSchema(kept, {**others, **self.unread})


class RowFile(ABC):
    """A file or folder of rows.

    Attributes:
        path: of the file or folder.
        columns: names, in order.
        unit: what ``FileRow.line`` counts.
        known: {modality: column} where the format itself says so.
        binary: columns that hold files' contents.
        wanted: columns that rows need to have; None: all.
        empty: texts that stand for an empty cell; whoever asks for the cells minds them.
        base: where relative paths begin; None: the file's folder.
        note: what a user should know of it, None if there is nothing.
    """

    path: Path
    columns: list[str]
    unit: str = "line"
    known: Mapping[str, str] = MappingProxyType({})
    binary: frozenset[str] = frozenset()
    wanted: Collection[str] | None = None
    empty: Collection[str] = frozenset()
    base: Path | None = None
    note: str | None = None

    @property
    def folder(self) -> Path:
        """Where relative paths of images begin."""
        return self.path.parent if self.base is None else self.base

    @cached_property
    def count(self) -> int:
        """Number of rows, >= 0; found by reading the file."""
        return sum(1 for _ in self.rows())

    @abstractmethod
    def rows(self) -> Iterator[FileRow]:
        """Yield the rows in order."""

    def chunks(self, size: int) -> Iterator[list[FileRow]]:
        """Yield ``size`` rows at a time; the last chunk may have fewer."""
        rows = self.rows()
        while chunk := list(islice(rows, size)):
            yield chunk

    def blocks(self) -> Iterator[tuple[int, list[FileRow]]]:
        """Yield (mark, at most ``BLOCK_ROWS`` rows); ``block`` reads the rows at a mark again."""
        raise UsageError(
            f"{self.path} can't be streamed, it is read as a whole; leave streaming out, or "
            "convert it to parquet, csv or json lines"
        )

    def block(self, mark: int, size: int) -> list[FileRow]:
        raise NotImplementedError

    def require_rows(self) -> None:
        """Check that there is any row."""
        if not self.count:
            raise PollinateError(f"{self.path} must have at least one row, got none")


def text_lines(path: Path, encoding: str = "utf-8") -> Iterator[str]:
    """Yield lines with their ends, without the byte-order mark that some editors put first."""
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
    """Check that bytes can be counted."""
    if encoding.lower().replace("_", "-") not in ("utf-8", "utf8"):
        raise UsageError(f"{path} must be UTF-8 to be streamed, got {encoding}; convert it")


class ByteLines:
    """Lines of a UTF-8 file from a place on; ``place`` is where the next one begins.

    Args:
        path: of the file.
        place: in bytes; 0 is the beginning, before a byte-order mark.
    """

    def __init__(self, path: Path, place: int = 0) -> None:
        self.path = path
        self.file = path.open("rb")
        self.file.seek(place)
        self.place = place

    def __iter__(self) -> Iterator[str]:
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


class LineRows(RowFile):
    """A text file whose rows come of its lines.

    Args:
        path: of the file.
        encoding: of the file; only UTF-8 can be streamed.
    """

    has_header = False  # a row that is none of the data

    def __init__(self, path: Path, encoding: str = "utf-8") -> None:
        self.path = path
        self.encoding = encoding

    @abstractmethod
    def parsed(self, lines: Iterator[str]) -> Iterator[FileRow]:
        """Yield the rows that lines hold; blank lines don't count."""

    def rows(self) -> Iterator[FileRow]:
        return islice(self.parsed(text_lines(self.path, self.encoding)), self.has_header, None)

    def blocks(self) -> Iterator[tuple[int, list[FileRow]]]:
        """Yield (byte, rows)."""
        require_utf8(self.path, self.encoding)
        lines = ByteLines(self.path)
        rows = self.parsed(iter(lines))
        if self.has_header:
            next(rows)
        while True:
            mark = lines.place
            found = list(islice(rows, BLOCK_ROWS))
            if not found:
                return
            yield mark, found

    def block(self, mark: int, size: int) -> list[FileRow]:
        return list(islice(self.parsed(iter(ByteLines(self.path, mark))), size))


def require_same_columns(files: Sequence[RowFile], wanted: Collection[str]) -> None:
    """Check that all files have those of the wanted columns that any has."""
    for other in files[1:]:
        differing = sorted(set(files[0].columns) ^ set(other.columns))
        if not set(wanted).isdisjoint(differing):
            raise PollinateError(
                f"the files of a data set must have the same columns; {files[0].path} and "
                f"{other.path} differ in {', '.join(differing)}"
            )


def require_names(path: Path, names: Sequence[str], advice: str = "mend the first line") -> None:
    """Check that columns have names, each its own."""
    doubles = sorted(name for name, count in Counter(names).items() if count > 1)
    if "" in names or doubles:
        found = "an empty one" if "" in names else f"{', '.join(doubles)} twice"
        if names[0] == "":
            advice = "pandas leaves out its row numbers with to_csv(index=False)"
        raise PollinateError(
            f"{path}: column names must be given and differ, got {found}; {advice}"
        )


def known_encoding(name: str) -> str:
    """Return the encoding's name."""
    try:
        return codecs.lookup(name).name
    except LookupError as error:
        raise UsageError(
            f"encoding must be one that Python knows (utf-8, latin-1, utf-16, gb18030), got {name}"
        ) from error


def wrong_encoding(path: Path, encoding: str, found: str, line: int) -> str:
    name = encoding.upper()
    return (
        f"{path} must be {name}, found byte {found} in line {line}; save it as {name}, or say what "
        "it is: encoding=latin-1, utf-16, gb18030 ..."
    )


class TextRows(RowFile):
    """A text file, one text a line: the column ``text``."""

    known = MappingProxyType({"text": "text"})

    def __init__(self, path: Path, encoding: str = "utf-8") -> None:
        self.path = path
        self.encoding = encoding
        self.columns = ["text"]

    def rows(self) -> Iterator[FileRow]:
        for number, line in enumerate(text_lines(self.path, self.encoding), start=1):
            yield FileRow({"text": line.rstrip("\r\n")}, line=number)


class MediaRows(RowFile):
    """Pictures or sounds, a single file or a folder's: the column ``path``, below the folder."""

    unit = "file"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.columns = ["path"]
        found = files_below(path, IMAGES | SOUNDS)
        own = {n: [file for file in found.files if file.suffix.lower() in KINDS[n]] for n in KINDS}
        modalities = [name for name, files in own.items() if files]
        found.require_any(path, "images or sounds", IMAGES | SOUNDS)
        if len(modalities) != 1:
            raise PollinateError(
                f"{path} has both images and sounds; give a folder, or a table, of one kind"
            )
        self.files = found.files
        self.known = {modalities[0]: "path"}
        self.found, self.note = found, found.note(path)

    @property
    def folder(self) -> Path:
        """The folder itself, or that of the single file."""
        return self.path if self.path.is_dir() else self.path.parent

    def rows(self) -> Iterator[FileRow]:
        for number, file in enumerate(self.files, start=1):
            yield FileRow({"path": str(file.relative_to(self.folder))}, line=number)

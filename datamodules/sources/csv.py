"""CSV and TSV files."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from datamodules.sources.base import FileSource
from datamodules.sources.row_files import (
    FileRow,
    LineRows,
    RowFile,
    TableSchema,
    known_encoding,
    require_names,
    text_lines,
)
from pollinate.errors import PollinateError, UsageError

LONGEST_CELL = 10_000_000  # characters; an unclosed quote must not take in a large file
DELIMITERS = (",", ";", "\t", "|")
UNCLOSED = "unexpected end of data"  # csv's words for it
NO_QUOTE = "none"  # quotes are signs like others
MANY_LINES = 10  # of a row, above which its quotes are doubted


class CsvRows(LineRows):
    """A CSV or TSV file; a row with too few or too many cells is an error of that row."""

    has_header = True

    def __init__(
        self, path: Path, delimiter: str = ",", encoding: str = "utf-8", quote: str = '"'
    ) -> None:
        super().__init__(path, encoding)
        self.delimiter = delimiter
        self.quote = quote
        self.columns = self._header()

    def parsed(self, lines: Iterator[str]) -> Iterator[FileRow]:
        for line, found, count in self._parts(lines):
            yield self._row(found, line, count)

    def _row(self, found: list[str] | csv.Error, line: int, count: int) -> FileRow:
        if isinstance(found, csv.Error):
            return FileRow(error=f"quotes are misplaced: {found}", line=line)
        width = len(self.columns)
        values = dict(zip(self.columns, found, strict=False))
        if len(found) != width:
            wrong = f"a row must have {width} cells like the header, got {len(found)}"
            return FileRow(values, wrong, line)
        return FileRow(values, line=line, doubt=self._doubt(found, count) if count > 1 else "")

    def _doubt(self, cells: Sequence[str], count: int) -> str:
        """Say that a row's quotes may have taken in other rows, if it looks like that."""
        rows_inside = self.delimiter == "\t" and any("\t" in cell for cell in cells)
        if count <= MANY_LINES and not rows_inside:
            return ""
        return (
            f"the row takes {count} lines; if its quotes are part of the text and have swallowed "
            "rows, set quote: none"
        )

    def _parts(self, lines: Iterator[str]) -> Iterator[tuple[int, list[str] | csv.Error, int]]:
        """Yield each row's first line, its cells or what is wrong with its quotes, and its lines.

        A row that takes several lines has them in a quoted cell.
        """
        csv.field_size_limit(LONGEST_CELL)
        plain = self.quote == NO_QUOTE
        reader = csv.reader(
            lines,
            delimiter=self.delimiter,
            quotechar=None if plain else self.quote,
            quoting=csv.QUOTE_NONE if plain else csv.QUOTE_MINIMAL,
            strict=True,
        )
        while True:
            line = reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                if str(error) == UNCLOSED:
                    raise PollinateError(
                        f"{self.path}: a quote in the row at line {line} is never closed; "
                        'close it, write "" for a quote inside a cell, or set quote: none if '
                        "quotes are part of the text"
                    ) from error
                yield line, error, 1
            else:
                if cells:
                    yield line, cells, reader.line_num - line + 1

    def _header(self) -> list[str]:
        _, header, _ = next(self._parts(text_lines(self.path, self.encoding)), (0, None, 0))
        if not isinstance(header, list):
            raise PollinateError(
                f"{self.path} must start with a line of column names, got "
                f"{'an empty file' if header is None else header}"
            )
        names = [name.strip() for name in header]
        self._require_delimiter(names)
        require_names(self.path, names)
        return names

    def _require_delimiter(self, names: Sequence[str]) -> None:
        if len(names) > 1:
            return
        for other in DELIMITERS:
            if other != self.delimiter and other in names[0]:
                raise PollinateError(
                    f"{self.path} has one column, {names[0]!r}; it seems to be parted by "
                    f"{other!r}, not by {self.delimiter!r}: set delimiter to that"
                )


class Csv(FileSource):
    r"""CSV or TSV files with a header; every cell is text.

    Args:
        path: a file, a pattern, a list of them, or {split: either}; all with the same columns.
        delimiter: between cells, one character.
        encoding: of the files.
        quote: the character round cells that hold delimiters or line breaks; none: there is no such
            character, and quotes are part of the text, as in many TSV files.
        folder: where relative paths of pictures and recordings begin; default: the file's folder.
        empty: texts that stand for an empty cell, besides the empty text.

    Raises:
        UsageError: delimiter or quote isn't one character, or the encoding isn't known.

    Examples:
        >>> from pathlib import Path
        >>> import pollinate as po
        >>> _ = Path("tea.tsv").write_text("review\tmood\ngood tea\tglad\nbad tea\t\n")
        >>> rows = po.sources.Csv("tea.tsv", delimiter="\t").table()
        >>> {name: list(column) for name, column in rows.columns.items()}
        {'review': ['good tea', 'bad tea'], 'mood': ['glad', None]}
    """

    format = "csv"

    def __init__(
        self,
        path: str | Sequence[str] | Mapping[str, Any],
        delimiter: str = ",",
        encoding: str = "utf-8",
        folder: str | None = None,
        empty: Sequence[str] = (),
        quote: str = '"',
    ) -> None:
        super().__init__(path, folder, empty)
        if len(delimiter) != 1:
            raise UsageError(f"delimiter must be one character, got {delimiter!r}")
        if quote != NO_QUOTE and (len(quote) != 1 or quote == delimiter):
            raise UsageError(
                f"quote must be one character, another than delimiter, or none, got {quote!r}"
            )
        self.delimiter = delimiter
        self.quote = quote
        self.encoding = known_encoding(encoding)

    def open(self, path: Path) -> RowFile:
        """Return the reader of a file."""
        return CsvRows(path, self.delimiter, self.encoding, self.quote)

    def schema(self, files: Sequence[RowFile]) -> TableSchema:
        """Return text for every column."""
        # take a moment; other formats don't need them
        import pyarrow as pa  # type: ignore[import-untyped]  # no types

        from datamodules.sources.arrow_types import unify_types

        return unify_types([(str(f.path), dict.fromkeys(f.columns, pa.string())) for f in files])

    def options(self) -> dict[str, Any]:
        """Return what, besides the files, the rows depend on."""
        own = {"delimiter": self.delimiter, "encoding": self.encoding, "quote": self.quote}
        return {**super().options(), **own}

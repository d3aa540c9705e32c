"""CSV and TSV files with a header, rows of any length of text."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.errors import PollinateError
from pipeline.prediction.inputs import Input, Row, utf8_lines

LONGEST_CELL = 10_000_000  # characters; an unclosed quote must not take in a large file
UNCLOSED = "unexpected end of data"  # csv's words for it


class Csv(Input):
    """A CSV or TSV file; a row with too few or too many cells is an error of that row.

    Raises:
        PollinateError: no header, no rows, a column without a name or with another's name, not
            UTF-8, or a quote that is never closed. The whole file is read once to find these.
    """

    def __init__(self, path: Path, delimiter: str) -> None:
        self.path = path
        self.delimiter = delimiter
        self.columns = self._header()
        self.count = sum(1 for _ in self.rows())
        self.require_rows()

    def rows(self) -> Iterator[Row]:
        """Yield the rows behind the header; blank lines don't count."""
        cells = self._cells()
        next(cells)
        for found in cells:
            yield self._row(found)

    def _row(self, found: list[str] | csv.Error) -> Row:
        if isinstance(found, csv.Error):
            return Row(error=f"quotes are misplaced: {found}")
        width = len(self.columns)
        values = dict(zip(self.columns, found, strict=False))
        if len(found) != width:
            return Row(values, f"a row must have {width} cells like the header, got {len(found)}")
        return Row(values)

    def _cells(self) -> Iterator[list[str] | csv.Error]:
        """Yield each row's cells, or what is wrong with its quotes."""
        csv.field_size_limit(LONGEST_CELL)
        reader = csv.reader(utf8_lines(self.path), delimiter=self.delimiter, strict=True)
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
                        'close it, or write "" for a quote inside a cell'
                    ) from error
                yield error
            else:
                if cells:
                    yield cells

    def _header(self) -> list[str]:
        header = next(self._cells(), None)
        if not isinstance(header, list):
            raise PollinateError(
                f"input {self.path} must begin with a line of column names, got "
                f"{'an empty file' if header is None else header}"
            )
        names = [name.strip() for name in header]
        require_names(self.path, names)
        return names


def require_names(path: Path, names: Sequence[str]) -> None:
    """Check that every column has a name of its own."""
    doubles = sorted(name for name, count in Counter(names).items() if count > 1)
    if "" in names or doubles:
        found = "an empty one" if "" in names else f"{', '.join(doubles)} twice"
        raise PollinateError(f"{path}: column names must be given and differ, got {found}")

"""Writers of predictions: rows are appended, the file appears when it is complete."""

from __future__ import annotations

import csv
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.errors import PollinateError, UsageError

Schema = Mapping[str, type]  # {column: str, int or float}
Rows = Sequence[Mapping[str, Any]]


class Output(ABC):
    """A file that rows are appended to."""

    @abstractmethod
    def __init__(self, path: Path, schema: Schema) -> None:
        """Create the file."""

    @abstractmethod
    def write(self, rows: Rows) -> None:
        """Append rows that have every column of the schema; None is an empty cell."""

    @abstractmethod
    def close(self) -> None:
        """Complete the file."""


class CsvOutput(Output):
    """CSV: UTF-8, a header."""

    delimiter = ","

    def __init__(self, path: Path, schema: Schema) -> None:
        self._file = path.open("w", encoding="utf-8", newline="")
        self._names = list(schema)
        self._writer = csv.writer(self._file, delimiter=self.delimiter)
        self._writer.writerow(self._names)

    def write(self, rows: Rows) -> None:
        """Append lines."""
        self._writer.writerows([as_cell(row[name]) for name in self._names] for row in rows)

    def close(self) -> None:
        """Flush and close."""
        self._file.close()


class TsvOutput(CsvOutput):
    """The same with tabulators."""

    delimiter = "\t"


class JsonLinesOutput(Output):
    """One JSON object a line."""

    def __init__(self, path: Path, schema: Schema) -> None:
        self._file = path.open("w", encoding="utf-8")
        self._names = list(schema)

    def write(self, rows: Rows) -> None:
        """Append lines."""
        for row in rows:
            named = {name: row[name] for name in self._names}
            self._file.write(json.dumps(named, ensure_ascii=False, default=str) + "\n")

    def close(self) -> None:
        """Flush and close."""
        self._file.close()


class ParquetOutput(Output):
    """Parquet; columns of the input are text."""

    group = 16384  # rows that are compressed together, at least

    def __init__(self, path: Path, schema: Schema) -> None:
        # takes a moment; other formats don't need it
        import pyarrow as pa  # type: ignore[import-untyped]  # no types
        from pyarrow.parquet import ParquetWriter  # type: ignore[import-untyped]  # no types

        types = {str: pa.string(), int: pa.int64(), float: pa.float64()}
        self._schema = pa.schema([(name, types[kind]) for name, kind in schema.items()])
        self._kinds = dict(schema)
        self._writer = ParquetWriter(path, self._schema)
        self._rows: list[dict[str, Any]] = []

    def write(self, rows: Rows) -> None:
        """Keep rows until there are enough for a group."""
        self._rows += [
            {name: as_kind(row[name], kind) for name, kind in self._kinds.items()} for row in rows
        ]
        if len(self._rows) >= self.group:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        self._writer.write_table(pa.Table.from_pylist(self._rows, self._schema))
        self._rows = []

    def close(self) -> None:
        """Write the rest and close."""
        if self._rows:
            self._flush()
        self._writer.close()


WRITERS: dict[str, type[Output]] = {
    ".csv": CsvOutput,
    ".tsv": TsvOutput,
    ".jsonl": JsonLinesOutput,
    ".parquet": ParquetOutput,
}


def check_output(path: Path, source: Path, overwrite: bool) -> None:
    """Check, before any work, that predictions can be written.

    Raises:
        UsageError: no format has such a name, a file is there, or it is the input.
        PollinateError: its folder is missing or can't be written to.
    """
    if path.suffix.lower() not in WRITERS:
        raise UsageError(f"output must end in {', '.join(WRITERS)}, got {path.name}")
    if path.exists():
        if path.is_dir() or path.samefile(source):
            what = "a folder" if path.is_dir() else "the input"
            raise UsageError(f"output must be a file of its own, {path} is {what}; choose another")
        if not overwrite:
            raise UsageError(f"output {path} is there already; choose another, or overwrite=true")
    if not path.parent.is_dir():
        raise PollinateError(f"output's folder {path.parent} doesn't exist; make it first")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise PollinateError(f"output's folder {path.parent} can't be written to; choose another")


@contextmanager
def output_file(path: Path, schema: Schema) -> Iterator[Output]:
    """Write beside ``path`` and rename at the end; whatever fails leaves ``path`` as it was.

    Raises:
        PollinateError: it can't be written, on a full disk say.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        output = WRITERS[path.suffix.lower()](temporary, schema)
        try:
            yield output
        finally:
            output.close()
        temporary.replace(path)
    except OSError as error:
        raise PollinateError(
            f"output {path} can't be written: {error.strerror or error}; nothing was changed. "
            "Make room or choose another folder"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def as_cell(value: Any) -> Any:
    """Return a value as CSV shows it: text and numbers as they are, the rest as JSON."""
    plain = value is None or isinstance(value, str | int | float)
    return value if plain else json.dumps(value, ensure_ascii=False, default=str)


def as_kind(value: Any, kind: type) -> Any:
    """Return a value that is no text as JSON where text is wanted."""
    is_other = kind is str and value is not None and not isinstance(value, str)
    return json.dumps(value, ensure_ascii=False, default=str) if is_other else value

"""Writers of predictions: tables, and pictures beside them."""

from __future__ import annotations

import csv
import json
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from datamodules.sources.row_files import FileRow, RowFile
from lightning_modules.predictor import Predictions
from lightning_modules.tasks.base import Label, Task
from lightning_modules.trust.doubts import Doubts
from pollinate.errors import PollinateError, UsageError
from pollinate.files import json_text, replacing, temporary_beside

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
            self._file.write(json_text(named, indent=None, default=str) + "\n")

    def close(self) -> None:
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
    """Check, before any work, that predictions can be written."""
    if path.suffix.lower() not in WRITERS:
        raise UsageError(f"output must end in {', '.join(WRITERS)}, got {path.name}")
    if path.exists():
        if path.is_dir() or path.samefile(source):
            what = "a folder" if path.is_dir() else "the input"
            raise UsageError(f"output must be a separate file, {path} is {what}; choose another")
        if not overwrite:
            raise UsageError(f"output {path} is there already; choose another, or overwrite=true")
    if not path.parent.is_dir():
        raise PollinateError(f"output's folder {path.parent} doesn't exist; make it first")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise PollinateError(f"output's folder {path.parent} can't be written to; choose another")


@contextmanager
def output_file(path: Path, schema: Schema) -> Iterator[Output]:
    """Write beside ``path`` and rename at the end; whatever fails leaves ``path`` as it was."""
    try:
        with replacing(path) as temporary:
            output = WRITERS[path.suffix.lower()](temporary, schema)
            try:
                yield output
            finally:
                output.close()
    except OSError as error:
        raise PollinateError(
            f"output {path} can't be written: {error.strerror or error}; nothing was changed. "
            "Make room or choose another folder"
        ) from error


def as_cell(value: Any) -> Any:
    """Return a value as CSV shows it: text and numbers as they are, the rest as JSON."""
    plain = value is None or isinstance(value, str | int | float)
    return value if plain else as_text(value)


def as_text(value: Any) -> str:
    """Return a cell that is no text as one: lists and objects as JSON, the rest as it is written.

    So a time or a decimal number has no quotes round it.
    """
    parts = isinstance(value, bool | int | float | list | tuple | Mapping)
    return json.dumps(value, ensure_ascii=False, default=str) if parts else str(value)


def as_kind(value: Any, kind: type) -> Any:
    is_other = kind is str and value is not None and not isinstance(value, str)
    return as_text(value) if is_other else value


class PictureFiles:
    """Writes each answer that is a picture into ``OUTPUT-TASK/ROW.png``.

    Args:
        output: the table of answers.
        tasks: {name: task}, those that are answered.
    """

    def __init__(self, output: Path, tasks: Mapping[str, Task]) -> None:
        self.tasks = {name: task for name, task in tasks.items() if task.maps is not None}
        self.folders = {
            name: output.with_name(f"{output.stem}-{name}").absolute() for name in self.tasks
        }
        self.temporary = {name: temporary_beside(folder) for name, folder in self.folders.items()}

    def check(self, overwrite: bool) -> None:
        """Check that no folder has anything in it."""
        for folder in self.folders.values():
            if folder.exists() and not folder.is_dir():
                raise UsageError(f"{folder} must be a folder, it is a file; choose another output")
            if folder.exists() and any(folder.iterdir()) and not overwrite:
                raise UsageError(
                    f"the folder {folder} is there already; choose another output, or "
                    "overwrite=true, which replaces pictures of the same name in it"
                )

    def write(self, task: str, row: int, answer: Label | None) -> dict[str, str]:
        """Write an answer; return {task: its path, relative to the output's folder}, or nothing.

        Args:
            task: its name.
            row: counted from 1.
            answer: None if there is none.
        """
        content = self.tasks[task].file(answer or {}) if task in self.tasks else None
        if content is None:
            return {}
        name = f"{row:06}.png"
        (self.temporary[task] / name).write_bytes(content)
        return {task: f"{self.folders[task].name}/{name}"}


@contextmanager
def picture_files(
    output: Path, tasks: Mapping[str, Task], overwrite: bool
) -> Iterator[PictureFiles]:
    """Write pictures beside their folders, and move them there at the end if nothing fails."""
    files = PictureFiles(output, tasks)
    files.check(overwrite)
    try:
        for folder in files.temporary.values():
            folder.mkdir()
        yield files
        for name, folder in files.folders.items():
            folder.mkdir(exist_ok=True)
            for picture in files.temporary[name].iterdir():
                picture.replace(folder / picture.name)
    except OSError as error:
        raise PollinateError(
            f"the pictures of {output} can't be written: {error.strerror or error}; make room or "
            "choose another folder"
        ) from error
    finally:
        for folder in files.temporary.values():
            shutil.rmtree(folder, ignore_errors=True)


ROW, ERROR = "row", "error"


def output_columns(
    source: RowFile, tasks: Mapping[str, Task], doubts: Mapping[str, Doubts]
) -> tuple[dict[str, str], dict[str, type]]:
    """Name the columns of the output.

    Returns:
        kept: {column of the input: its name in the output}; ``input_`` goes before a name that a
            task has too: a labelled file keeps its labels.
        schema: {column: kind}, in order: the row's number from 1, the input, the answers, error.
    """
    answers: dict[str, type] = {ROW: int}
    for name, task in tasks.items():
        types = prediction_types(task, doubts.get(name))
        answers |= {f"{name}{suffix}": kind for suffix, kind in types.items()}
    answers[ERROR] = str
    input_names: dict[str, str] = {}
    for column in source.columns:
        if column in source.binary:
            continue
        name = column
        while name in answers or name in input_names.values():
            name = f"input_{name}"
        input_names[column] = name
    return input_names, {ROW: int} | dict.fromkeys(input_names.values(), str) | answers


def output_rows(
    rows: Sequence[FileRow],
    input_names: Mapping[str, str],
    predictions: Predictions,
    tasks: Mapping[str, Task],
    files: PictureFiles,
    start: int,
    doubts: Mapping[str, Doubts],
) -> Iterator[dict[str, Any]]:
    """Yield one output row for each input row; ``start`` rows came before.

    An answer that is a picture is written to ``files``, and its cell is where.
    """
    for place, row in enumerate(rows):
        found: dict[str, Any] = {ROW: start + place + 1}
        found |= {name: row.values.get(column) for column, name in input_names.items()}
        for task, labels in predictions.answers.items():
            picture_cell = files.write(task, start + place + 1, labels[place])
            cells = prediction_cells(task, tasks[task], labels[place], doubts.get(task))
            found |= cells | picture_cell
        yield {**found, ERROR: predictions.errors.get(place, "")}


def prediction_cells(
    name: str, task: Task, label: Label | None, doubts: Doubts | None = None
) -> dict[str, Any]:
    """Return an answer as {column: cell}, the cells empty if there is none."""
    more = {} if doubts is None else doubts.cells(label)
    return {f"{name}{suffix}": cell for suffix, cell in (task.cells(label) | more).items()}


def prediction_types(task: Task, doubts: Doubts | None) -> dict[str, type]:
    """Return {suffix of the task's name: str or float} of the cells of an answer."""
    return task.cell_types() | ({} if doubts is None else doubts.cell_types())

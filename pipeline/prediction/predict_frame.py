"""Predicts for the rows of a DataFrame."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from datamodules.inputs import InputColumns, columns_named
from datamodules.prompts import is_textual
from datamodules.python_data import plain_cell
from datamodules.sources.row_files import FileRow, RowFile
from lightning_modules.predictor import Predictor
from lightning_modules.tasks.base import Label, Task
from lightning_modules.tasks.dense import MAP
from lightning_modules.trust.doubts import DoubtOptions, Doubts
from pipeline.prediction.inputs import PYTHON, match_columns
from pipeline.prediction.output_files import ERROR, prediction_cells, prediction_types
from pipeline.prediction.predict_file import choose_tasks, predict_rows
from pollinate.errors import UsageError


class FrameRows(RowFile):
    """A DataFrame as a file of rows; paths in it may lead anywhere.

    Args:
        rows: a DataFrame, whose columns' names count as text, or {column: cells}.
    """

    unit = "row"

    def __init__(self, rows: pd.DataFrame | Mapping[str, Sequence[Any]]) -> None:
        frame = as_frame(rows)
        self.frame = frame
        self.path = Path("the DataFrame")
        self.columns = [str(name) for name in frame.columns]
        twice = sorted({name for name in self.columns if self.columns.count(name) > 1})
        if twice:
            raise UsageError(f"columns must differ, got {', '.join(twice)} twice; rename one")

    @property
    def folder(self) -> Path:
        return Path.cwd()

    def rows(self) -> Iterator[FileRow]:
        yield from self.with_paths([])

    def read(self, columns: Mapping[str, InputColumns]) -> list[FileRow]:
        """Return the rows as the modalities' columns are read; see ``match_columns``."""
        media = [name for modality, given in columns.items() if not is_textual(modality)
                 for name in columns_named(given)]  # fmt: skip
        return self.with_paths(media)

    def with_paths(self, media: Sequence[str]) -> list[FileRow]:
        """Return the rows; texts in columns of pictures and sounds are paths."""
        columns = {
            name: [frame_cell(cell, name in media) for cell in self.frame.iloc[:, place]]
            for place, name in enumerate(self.columns)
        }
        return [
            FileRow({name: column[row] for name, column in columns.items()}, line=row + 1)
            for row in range(len(self.frame))
        ]


def as_frame(rows: pd.DataFrame | Mapping[str, Sequence[Any]]) -> pd.DataFrame:
    """Return rows as a DataFrame, whose cells may be arrays."""
    if isinstance(rows, pd.DataFrame):
        return rows
    if not isinstance(rows, Mapping):
        raise UsageError(
            f'predict takes a pandas DataFrame or {{"text": [...]}}, got {type(rows).__name__}'
        )
    lengths = {name: len(cells) for name, cells in rows.items()}
    if len(set(lengths.values())) > 1:
        raise UsageError(f"all columns must have one length, got {lengths}")
    columns = {name: pd.Series(list(cells), dtype=object) for name, cells in rows.items()}
    return pd.DataFrame(columns)


def frame_cell(cell: Any, is_media: bool) -> Any:
    """Return a cell as the library knows it: None for a missing one, a path for a file's name."""
    cell = plain_cell(cell)
    return Path(cell).expanduser().absolute() if is_media and isinstance(cell, str) else cell


def predict_frame(
    predictor: Predictor,
    rows: pd.DataFrame | Mapping[str, Sequence[Any]],
    inputs: Mapping[str, InputColumns],
    tasks: Sequence[str] | None,
    batch_size: int,
    doubt: DoubtOptions | None = None,
) -> pd.DataFrame:
    """Return a row of answers for each row.

    Args:
        predictor: of the model.
        rows: N of them, in a DataFrame or as {column: cells}.
        inputs: {modality: column}, where the columns aren't called as in training.
        tasks: the tasks wanted; None: all that the columns suffice for.
        batch_size: rows at a time, >= 1.
        doubt: what is wanted beside the answers; None: what training asked for.

    Returns:
        The columns that the predict command writes for tasks, and error; the frame's index.

    Raises:
        UsageError: the columns don't fit the model, or a task can't be answered.
    """
    source = FrameRows(rows)
    source.empty = predictor.empty_words
    frame = source.frame
    columns = match_columns(predictor.inputs, source, inputs, PYTHON)
    chosen = choose_tasks(predictor, list(columns), tasks, PYTHON)
    doubts = predictor.doubts(doubt, chosen)
    for note in (note for own in doubts.values() for note in own.notes):
        warnings.warn(note, stacklevel=4)
    rows_read = source.read(columns)
    found = predict_rows(predictor, rows_read, columns, chosen, source, batch_size, doubts)
    answers: dict[str, pd.Series[Any]] = {}
    for name in chosen:
        task = predictor.tasks[name]
        cells = [task_cells(name, task, one, doubts.get(name)) for one in found.answers[name]]
        for suffix, kind in prediction_types(task, doubts.get(name)).items():
            values = [row[f"{name}{suffix}"] for row in cells]
            dtype = "float64" if kind is float else object
            answers[f"{name}{suffix}"] = pd.Series(values, frame.index, dtype)
    for drift in filter(None, (own.drift() for own in doubts.values())):
        warnings.warn(drift, stacklevel=4)
    errors = [found.errors.get(row, "") for row in range(len(frame))]
    answers[ERROR] = pd.Series(errors, frame.index, object)
    return pd.DataFrame(answers, index=frame.index)


def task_cells(name: str, task: Task, label: Label | None, doubts: Doubts | None) -> dict[str, Any]:
    """Return an answer as {column: cell}; a map is an array (height, width)."""
    cells = prediction_cells(name, task, label, doubts)
    return cells | {name: (label or {}).get(MAP)} if task.maps is not None else cells

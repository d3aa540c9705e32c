"""Input rows and their answers, side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from datamodules.files.base import Row, RowFile
from lightning_modules.tasks.base import Label, Task
from pipeline.prediction.answer_files import AnswerFiles
from pipeline.prediction.predictor import Predictions

ROW, ERROR = "row", "error"


def output_columns(
    source: RowFile, tasks: Mapping[str, Task]
) -> tuple[dict[str, str], dict[str, type]]:
    """Name the columns of the output.

    Returns:
        kept: {column of the input: its name in the output}; ``input_`` goes before a name that a
            task has too: a labelled file keeps its labels.
        schema: {column: kind}, in order: the row's number from 1, the input, the answers, error.
    """
    answers: dict[str, type] = {ROW: int}
    for name, task in tasks.items():
        answers |= {f"{name}{suffix}": kind for suffix, kind in task.cell_types().items()}
    answers[ERROR] = str
    kept: dict[str, str] = {}
    for column in source.columns:
        if column in source.binary:
            continue
        name = column
        while name in answers or name in kept.values():
            name = f"input_{name}"
        kept[column] = name
    return kept, {ROW: int} | dict.fromkeys(kept.values(), str) | answers


def output_rows(
    rows: Sequence[Row],
    kept: Mapping[str, str],
    predictions: Predictions,
    tasks: Mapping[str, Task],
    files: AnswerFiles,
    start: int,
) -> Iterator[dict[str, Any]]:
    """Yield one output row for each input row; ``start`` rows came before.

    An answer that is a picture is written to ``files``, and its cell is where.
    """
    for place, row in enumerate(rows):
        found: dict[str, Any] = {ROW: start + place + 1}
        found |= {name: row.values.get(column) for column, name in kept.items()}
        for task, labels in predictions.answers.items():
            kept_at = files.keep(task, start + place + 1, labels[place])
            found |= kept_at or flat(task, tasks[task], labels[place])
        yield {**found, ERROR: predictions.errors.get(place, "")}


def flat(name: str, task: Task, label: Label | None) -> dict[str, Any]:
    """Return an answer as {column: cell}, the cells empty if there is none."""
    return {f"{name}{suffix}": cell for suffix, cell in task.cells(label).items()}

"""Matches an input's columns with the modalities of a checkpoint, and takes its raw values."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datamodules.dataset_rules import INPUT_FORMS, is_input
from datamodules.inputs import InputColumns, column_cells, columns_named, resolve_path
from datamodules.prompts import is_textual
from datamodules.sources.row_files import FileRow, RowFile
from pipeline.prediction.input_files import TrainedReading
from pollinate.errors import PollinateError, UsageError
from pollinate.suggest import hint

TrainingInputs = Mapping[
    str, Mapping[str, InputColumns]
]  # {data set: {modality: its column(s) in training}}


def trained_readings(
    inputs: TrainingInputs, readings: Mapping[str, Mapping[str, Any]]
) -> list[TrainedReading]:
    """Return how training read the data sets that are known to have been files."""
    return [
        TrainedReading(
            name,
            frozenset(column for given in inputs[name].values() for column in columns_named(given)),
            options,
        )
        for name, options in readings.items()
        if name in inputs and options
    ]


@dataclass(frozen=True)
class InputWording:
    """How messages call the option that says which column is which, and show it."""

    option: str
    example: str

    def choose(self, modality: str, column: str) -> str:
        return self.example.format(modality=modality, column=column)


COMMAND_LINE = InputWording("columns", "'columns={{{modality}: {column}}}'")
PYTHON = InputWording("inputs", 'inputs={{"{modality}": "{column}"}}')


def match_columns(
    inputs: TrainingInputs,
    source: RowFile,
    given: Mapping[str, InputColumns],
    wording: InputWording = COMMAND_LINE,
) -> dict[str, InputColumns]:
    """Return {modality: column, or columns, of the input}.

    Column names in order: ``given``; what the format itself says; the names in training; the
    modality's own name.
    """
    modalities = sorted({name for columns in inputs.values() for name in columns})
    option = wording.option
    for modality, columns in given.items():
        if modality not in modalities:
            known = hint(modality, modalities, "modalities")
            raise UsageError(f"{option}.{modality}: the checkpoint doesn't take it{known}")
        if not is_input(modality, columns):
            raise UsageError(f"{option}.{modality} must be {INPUT_FORMS[modality]}, got {columns}")
        for column in columns_named(columns):
            if column not in source.columns:
                known = hint(column, source.columns, "columns")
                raise UsageError(f"{option}.{modality}={column} is not in {source.path}{known}")
    found = {name: _columns(inputs, source, given, name, wording) for name in modalities}
    matched = {modality: column for modality, column in found.items() if column is not None}
    if not matched:
        wanted = "; ".join(
            f"{m}: {' or '.join(map(column_names, candidate_columns(inputs, m)))}"
            for m in modalities
        )
        raise UsageError(
            f"{source.path} has none of the columns that the checkpoint reads ({wanted}); it has "
            f"{', '.join(source.columns)}. Say which is which: "
            f"{wording.choose(modalities[0], 'NAME')}"
        )
    return matched


def candidate_columns(inputs: TrainingInputs, modality: str) -> list[InputColumns]:
    """Return the columns that a modality may come from: those in training, then its own name."""
    forms: list[InputColumns] = []
    for form in (*(columns.get(modality) for columns in inputs.values()), modality):
        if form is not None and form not in forms:
            forms.append(form)
    return forms


def column_names(given: InputColumns) -> str:
    return "+".join(columns_named(given))


def _columns(
    inputs: TrainingInputs,
    source: RowFile,
    given: Mapping[str, InputColumns],
    modality: str,
    wording: InputWording,
) -> InputColumns | None:
    sure = {**source.known, **given}.get(modality)
    if sure is not None:
        return sure
    there = [
        form
        for form in candidate_columns(inputs, modality)
        if all(name in source.columns for name in columns_named(form))
    ]
    trained = [form for form in there if form != modality]
    if len(trained) > 1:
        raise UsageError(
            f"{modality} must be one column, but {source.path} has "
            f"{', '.join(map(column_names, trained))}, all known from training; choose one: "
            f"{wording.choose(modality, column_names(trained[0]))}"
        )
    return next(iter(trained or there), None)


def raw_values(
    rows: Sequence[FileRow],
    columns: Mapping[str, InputColumns],
    folder: Path,
    empty: Collection[str] = (),
) -> tuple[dict[str, list[Any]], dict[int, str]]:
    """Return ({modality: a raw value or None for each row}, {row: error}).

    Args:
        rows: N rows.
        columns: {modality: column, or columns}.
        folder: paths of pictures and sounds are relative to it and stay below it.
        empty: texts that stand for an empty cell.
    """
    errors = {place: row.error for place, row in enumerate(rows) if row.error}
    names = {name for given in columns.values() for name in columns_named(given)}
    table = {
        name: [None if row.error else cell_value(row.values.get(name), empty) for row in rows]
        for name in names
    }
    values = {modality: list(column_cells(given, table)) for modality, given in columns.items()}
    for modality in [name for name in values if not is_textual(name)]:
        for place, cell in enumerate(values[modality]):
            try:
                values[modality][place] = resolve_path(cell, folder)
            except PollinateError as error:
                values[modality][place] = None
                errors[place] = f"{column_names(columns[modality])}: {error}"
    return values, errors


def cell_value(cell: Any, empty: Collection[str] = ()) -> Any:
    """Return a cell, None for an empty one: NaN, white space, or a text that stands for it."""
    if isinstance(cell, str):
        return None if cell in empty or not cell.strip() else cell
    return None if cell is None or (isinstance(cell, float) and cell != cell) else cell

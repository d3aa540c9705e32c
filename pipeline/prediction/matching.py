"""Which column of an input feeds which modality, and a row's raw values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datamodules.files.base import Row, RowFile
from datamodules.inputs import Given, cells, columns_named
from datamodules.media import locate
from pipeline.configuration.data_rules import INPUT_FORMS, is_input
from pipeline.configuration.suggest import hint
from pipeline.errors import PollinateError, UsageError

Inputs = Mapping[str, Mapping[str, Given]]  # {data set: {modality: its column(s) in training}}


def match_columns(inputs: Inputs, source: RowFile, given: Mapping[str, Given]) -> dict[str, Given]:
    """Return {modality: column, or columns, of the input}.

    Column names in order: ``given``; what the format itself says; the names in training; the
    modality's own name.

    Raises:
        UsageError: ``given`` names what isn't there, nothing matches, or several columns do.
    """
    modalities = sorted({name for columns in inputs.values() for name in columns})
    for modality, columns in given.items():
        if modality not in modalities:
            known = hint(modality, modalities, "modalities")
            raise UsageError(f"columns.{modality}: the checkpoint doesn't take it{known}")
        if not is_input(modality, columns):
            raise UsageError(f"columns.{modality} must be {INPUT_FORMS[modality]}, got {columns}")
        for column in columns_named(columns):
            if column not in source.columns:
                known = hint(column, source.columns, "columns")
                raise UsageError(f"columns.{modality}={column} is not in {source.path}{known}")
    found = {name: _columns(inputs, source, given, name) for name in modalities}
    matched = {modality: column for modality, column in found.items() if column is not None}
    if not matched:
        wanted = "; ".join(
            f"{m}: {' or '.join(map(shown, forms_of(inputs, m)))}" for m in modalities
        )
        raise UsageError(
            f"{source.path} has none of the columns that the checkpoint reads ({wanted}); it has "
            f"{', '.join(source.columns)}. Say which is which: 'columns={{{modalities[0]}: NAME}}'"
        )
    return matched


def forms_of(inputs: Inputs, modality: str) -> list[Given]:
    """Return the columns that a modality may come from: those in training, then its own name."""
    forms: list[Given] = []
    for form in (*(columns.get(modality) for columns in inputs.values()), modality):
        if form is not None and form not in forms:
            forms.append(form)
    return forms


def shown(given: Given) -> str:
    """Return the columns' names for people."""
    return "+".join(columns_named(given))


def _columns(
    inputs: Inputs, source: RowFile, given: Mapping[str, Given], modality: str
) -> Given | None:
    sure = {**source.known, **given}.get(modality)
    if sure is not None:
        return sure
    there = [
        form
        for form in forms_of(inputs, modality)
        if all(name in source.columns for name in columns_named(form))
    ]
    trained = [form for form in there if form != modality]
    if len(trained) > 1:
        raise UsageError(
            f"{modality} must be one column, but {source.path} has "
            f"{', '.join(map(shown, trained))}, all known from training; choose one: "
            f"'columns={{{modality}: {shown(trained[0])}}}'"
        )
    return next(iter(trained or there), None)


def raw_values(
    rows: Sequence[Row], columns: Mapping[str, Given], folder: Path
) -> tuple[dict[str, list[Any]], dict[int, str]]:
    """Return ({modality: a raw value or None for each row}, {row: error}).

    Args:
        rows: N rows.
        columns: {modality: column, or columns}.
        folder: paths of pictures and sounds are relative to it and stay below it.
    """
    errors = {place: row.error for place, row in enumerate(rows) if row.error}
    names = {name for given in columns.values() for name in columns_named(given)}
    table = {
        name: [None if row.error else filled(row.values.get(name)) for row in rows]
        for name in names
    }
    values = {modality: list(cells(given, table)) for modality, given in columns.items()}
    for modality in values.keys() - {"text"}:
        for place, cell in enumerate(values[modality]):
            try:
                values[modality][place] = locate(cell, folder)
            except PollinateError as error:
                values[modality][place] = None
                errors[place] = f"{shown(columns[modality])}: {error}"
    return values, errors


def filled(cell: Any) -> Any:
    """Return a cell, None if it is empty."""
    empty = cell is None or (isinstance(cell, float) and cell != cell)
    return None if empty or (isinstance(cell, str) and not cell.strip()) else cell

"""Which column of an input feeds which modality, and a row's raw values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datamodules.files.base import Row, RowFile
from pipeline.configuration.suggest import hint
from pipeline.errors import PollinateError, UsageError

Inputs = Mapping[str, Mapping[str, str]]  # {data set: {modality: name of its column in training}}


def match_columns(inputs: Inputs, source: RowFile, given: Mapping[str, str]) -> dict[str, str]:
    """Return {modality: column of the input}.

    Column names in order: ``given``; what the format itself says; the names in training; the
    modality's own name.

    Raises:
        UsageError: ``given`` names what isn't there, nothing matches, or several columns do.
    """
    modalities = sorted({name for columns in inputs.values() for name in columns})
    for modality, column in given.items():
        if modality not in modalities:
            known = hint(modality, modalities, "modalities")
            raise UsageError(f"columns.{modality}: the checkpoint doesn't take it{known}")
        if column not in source.columns:
            known = hint(column, source.columns, "columns")
            raise UsageError(f"columns.{modality}={column} is not in {source.path}{known}")
    found = {name: _column(inputs, source, given, name) for name in modalities}
    matched = {modality: column for modality, column in found.items() if column is not None}
    if not matched:
        wanted = "; ".join(f"{m}: {' or '.join(names_of(inputs, m))}" for m in modalities)
        raise UsageError(
            f"{source.path} has none of the columns that the checkpoint reads ({wanted}); it has "
            f"{', '.join(source.columns)}. Say which is which: 'columns={{{modalities[0]}: NAME}}'"
        )
    return matched


def names_of(inputs: Inputs, modality: str) -> list[str]:
    """Return the names that a modality's column may have: those in training, then its own."""
    trained = [columns[modality] for columns in inputs.values() if modality in columns]
    return list(dict.fromkeys([*trained, modality]))


def _column(inputs: Inputs, source: RowFile, given: Mapping[str, str], modality: str) -> str | None:
    sure = {**source.known, **given}.get(modality)
    if sure is not None:
        return sure
    *trained, general = names_of(inputs, modality)
    found = [name for name in trained if name in source.columns]
    if len(found) > 1:
        raise UsageError(
            f"{modality} must be one column, but {source.path} has {', '.join(found)}, all known "
            f"from training; choose one: 'columns={{{modality}: {found[0]}}}'"
        )
    return next(iter(found), general if general in source.columns else None)


def raw_values(
    rows: Sequence[Row], columns: Mapping[str, str], folder: Path
) -> tuple[dict[str, list[Any]], dict[int, str]]:
    """Return ({modality: a raw value or None for each row}, {row: error}).

    Args:
        rows: N rows.
        columns: {modality: column}.
        folder: images' paths are relative to it and stay below it.
    """
    values: dict[str, list[Any]] = {modality: [None] * len(rows) for modality in columns}
    errors = {place: row.error for place, row in enumerate(rows) if row.error}
    for place, row in enumerate(rows):
        for modality, column in columns.items() if not row.error else ():
            try:
                values[modality][place] = raw(modality, row.values.get(column), folder)
            except PollinateError as error:
                errors[place] = f"{column}: {error}"
    return values, errors


def raw(modality: str, cell: Any, folder: Path) -> Any:
    """Return a cell as the modality takes it, None if it is empty."""
    if cell is None or cell != cell or (isinstance(cell, str) and not cell.strip()):
        return None
    return image(cell, folder) if modality == "image" else cell


def image(cell: Any, folder: Path) -> bytes | Path:
    """Return an image's content or path.

    Args:
        cell: content; path; or both, as Hugging Face's data sets have them in parquet files.
        folder: the path is relative to it, and stays below it.

    Raises:
        PollinateError: it is something else, or a path that leads out of the folder.
    """
    if isinstance(cell, dict):
        cell = cell.get("bytes") or cell.get("path")
    if isinstance(cell, bytes):
        return cell
    if not isinstance(cell, str) or "\0" in cell:
        raise PollinateError(f"an image must be a path or a file's content, got {cell!r:.40}")
    path = (folder / cell).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise PollinateError(f"an image's path must stay below {folder}, got {cell}")
    return path

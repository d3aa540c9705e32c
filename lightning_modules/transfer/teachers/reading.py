"""What a teacher reads of a data set's rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from datamodules.columns import Column
from datamodules.inputs import Given, columns_named, input_cells, input_key
from datamodules.loading import Loaded
from datamodules.mixed import MixedDataModule
from pipeline.configuration.suggest import hint
from pipeline.errors import UsageError

KEY = "transfer.inputs"
Inputs = Mapping[str, Mapping[str, Given]]  # {data set: {modality: column, or columns}}


@dataclass(frozen=True)
class Read:
    """One modality of a data set's rows, as its source gives them.

    cells: N raw values of all rows of the data set.
    key: plain values that change when the cells do.
    own: whether the run reads the same cells itself.
    """

    cells: Column
    key: Any
    own: bool


def what_it_reads(
    name: str, loaded: Loaded, given: Mapping[str, Given], trained: Inputs
) -> dict[str, Read]:
    """Return {modality: what a teacher reads}, empty if the data set has nothing for it.

    In this order: the columns that a user gives; the run's own inputs; the columns that the teacher
    read in its own training, if the data set has them.

    Args:
        name: of the data set.
        loaded: the data set.
        given: {modality: column} of the user.
        trained: what the teacher read in its training.

    Raises:
        UsageError: a column is none, or several could be meant.
    """
    modalities = dict.fromkeys(m for columns in trained.values() for m in columns)
    found = {}
    for modality in modalities:
        columns = given.get(modality) or None
        if columns is None and modality in loaded.inputs:
            found[modality] = Read(loaded.inputs[modality], loaded.keys.get(modality), True)
            continue
        if columns is None:
            columns = known_column(name, loaded, modality, trained)
        if columns is not None:
            require_columns(name, loaded, modality, columns)
            cells = input_cells({modality: columns}, loaded.table)[modality]
            key = input_key(modality, columns, cells, loaded.table)
            found[modality] = Read(cells, key, False)
    return found


def known_column(name: str, loaded: Loaded, modality: str, trained: Inputs) -> Given | None:
    """Return the column of a modality in a teacher's training that the data set has, too."""
    forms: list[Given] = []
    for columns in trained.values():
        form = columns.get(modality)
        there = form is not None and all(c in loaded.table.names for c in columns_named(form))
        if form is not None and there and form not in forms:
            forms.append(form)
    if len(forms) > 1:
        texts = " and ".join("+".join(columns_named(form)) for form in forms)
        raise UsageError(
            f"the data set {name} has several columns that a teacher reads as {modality}, {texts}; "
            f"choose one: {KEY}={{{name}: {{{modality}: {columns_named(forms[0])[0]}}}}}"
        )
    return forms[0] if forms else None


def require_columns(name: str, loaded: Loaded, modality: str, columns: Given) -> None:
    """Check that a data set has columns.

    Raises:
        UsageError: it hasn't.
    """
    for column in columns_named(columns):
        if column not in loaded.table.columns:
            known = hint(column, loaded.table.names, "columns")
            raise UsageError(
                f"{KEY}.{name}.{modality} names the column {column!r}, which the data set hasn't"
                f"{known}"
            )


def require_inputs(given: Inputs, data: MixedDataModule, readable: Mapping[str, set[str]]) -> None:
    """Check the columns that a user gives to teachers.

    Args:
        given: those.
        data: this run's.
        readable: {data set: modalities that its teachers read}.

    Raises:
        UsageError: a data set isn't taught, or no teacher of it reads a modality.
    """
    for problem in problems(given, data, readable):
        raise UsageError(problem)


def problems(
    given: Inputs, data: MixedDataModule, readable: Mapping[str, set[str]]
) -> Iterator[str]:
    """Yield what is wrong with the columns that a user gives."""
    for name, columns in given.items():
        if name not in data.datasets:
            yield f"{KEY} names the data set {name!r}{hint(name, data.datasets, 'data sets')}"
        for modality in columns:
            known = readable.get(name, set())
            if modality not in known:
                yield (
                    f"{KEY}.{name} gives {modality}, which no teacher of its tasks reads"
                    f"{hint(modality, sorted(known), 'they read')}"
                )

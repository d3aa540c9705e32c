"""From a source to rows that are checked and split."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from datamodules.bad_rows import BadRows
from datamodules.cache import Cache
from datamodules.columns import Column, take
from datamodules.duplicates import MOST_BYTES, bytes_on_disk, hash_rows
from datamodules.inputs import (
    Given,
    columns_named,
    input_cells,
    input_key,
    media,
    paired,
    target_cells,
)
from datamodules.maps.store import MapStore
from datamodules.sources.base import Source
from datamodules.splits import split_rows
from datamodules.table import Table
from lightning_modules.tasks.base import Task
from pipeline.configuration.suggest import hint
from pipeline.errors import PollinateError

Target = str | Sequence[str]
HASHES = "hashes.npy"


@dataclass
class DatasetSpec:
    """source: where rows come from; inputs: {modality: column(s)}; split: see ``split_rows``.

    streaming: leave the inputs in their files.
    """

    source: Source
    inputs: Mapping[str, Given]
    split: Mapping[str, Any]
    streaming: bool = False


@dataclass
class TaskSpec:
    """What to predict from the rows of which data sets.

    task: type of labels and loss.
    datasets: names, those without labels among them.
    target: the column with the labels, several of them, or {data set: either}; None for a task
        whose labels are that a row has the task's modalities.
    drop_unseen: whether labels that only valid or test have count as empty; else they are refused.
    unlabelled: names of data sets that have no column with labels.
    known: what another run learnt of the labels, for a task that no data set has labels of.
    """

    task: Task
    datasets: Sequence[str]
    target: Target | Mapping[str, Target] | None
    drop_unseen: bool = False
    unlabelled: Sequence[str] = ()
    known: Mapping[str, Any] | None = None

    def target_in(self, dataset: str) -> Target:
        """Return the column(s) with the labels in one data set, none in one without labels."""
        if dataset in self.unlabelled:
            return []
        return self.target[dataset] if isinstance(self.target, Mapping) else self.target or []


@dataclass
class Loaded:
    """A data set's rows, checked and split.

    table: all N rows.
    inputs: {modality: N raw cells}.
    keys: {modality: what its cells depend on}; see ``input_key``.
    targets: {task: N raw cells}.
    rows: {split: rows, sorted}.
    bad: rows that can't be used; they are in no split.
    maps: {task: targets that have a value for each pixel, of N rows}.
    hashes: (N,) uint64, equal for rows with the same inputs; None where that takes too long.
    """

    table: Table
    inputs: dict[str, Column]
    keys: dict[str, Any]
    targets: dict[str, Column]
    rows: dict[str, np.ndarray]
    bad: BadRows
    hashes: np.ndarray | None = field(default=None, repr=False)
    maps: dict[str, MapStore] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Of the table's content and of the files that it names."""
        names_files = self.table.folder is not None and set(self.inputs) - {"text"}
        state = hashlib.sha256()
        if self.hashes is not None and names_files:
            state.update(self.hashes.tobytes())
        elif not self.maps:
            return self.table.digest
        for store in self.maps.values():
            state.update(store.digest.encode())
        return f"{self.table.digest}-{state.hexdigest()[:12]}"

    def target(self, task: str, split: str) -> Column:
        """Return a task's raw labels in one split."""
        return take(self.targets[task], self.rows[split])

    def label(self, task: str, split: str) -> Column:
        """Return what a task learns from in one split: its raw labels, or prepared maps."""
        if task in self.maps:
            return self.maps[task].column(self.rows[split])
        return self.target(task, split)

    def input(self, modality: str, split: str) -> Column:
        """Return a modality's raw cells in one split."""
        return take(self.inputs[modality], self.rows[split])


def table_digest(digest: str) -> str:
    """Return the part of ``Loaded.digest`` that doesn't depend on a run's tasks."""
    return digest.partition("-")[0]


def load_dataset(
    name: str, spec: DatasetSpec, tasks: Mapping[str, TaskSpec], split_seed: int, cache: Cache
) -> Loaded:
    """Read a data set, find rows that can't be used, and deal out the others.

    The rows are stratified by the first task's labels, unless the split says otherwise.

    Args:
        name: of the data set.
        spec: where it is and how it is split.
        tasks: those on this data set.
        split_seed: of the splits.
        cache: where sources keep what they read.

    Raises:
        PollinateError: the source or a column is missing.
    """
    try:
        if spec.streaming:
            inner = [column for given in spec.inputs.values() for column in columns_named(given)]
            table = spec.source.stream(cache, inner)
        else:
            table = spec.source.load(cache)
    except PollinateError as error:
        raise PollinateError(f"data set {name}: {error}") from error
    require_columns(name, spec, tasks, table)
    bad = BadRows(name, table)
    bad.add("", table.bad)
    inputs = input_cells(spec.inputs, table)
    targets = {task: raw_targets(one, name, inputs, table) for task, one in tasks.items()}
    for task, values in targets.items():
        columns = "+".join(columns_named(tasks[task].target_in(name)))
        bad.add(columns, tasks[task].task.problems(values, inputs))
    strata = next(
        (targets[t] for t, o in tasks.items() if o.task.maps is None and name not in o.unlabelled),
        None,
    )
    usable = bad.without(np.arange(len(table)))
    try:
        rows = split_rows(spec.split, table.columns, usable, strata, split_seed)
    except PollinateError as error:
        raise PollinateError(f"data set {name}: {error}") from error
    if spec.streaming:  # what needs all inputs at once is left out
        return Loaded(table, inputs, {}, targets, rows, bad)
    keys = {m: input_key(m, spec.inputs[m], cells, table) for m, cells in inputs.items()}
    hashes = row_hashes(inputs, keys, table, cache)
    return Loaded(table, inputs, keys, targets, rows, bad, hashes)


def raw_targets(spec: TaskSpec, dataset: str, inputs: Mapping[str, Column], table: Table) -> Column:
    """Return a task's N raw targets in one data set, the paths of maps resolved.

    They are all empty where there are no labels.
    """
    if dataset in spec.unlabelled:
        return [None] * len(table)
    if spec.task.modalities:
        return paired(inputs, spec.task.modalities)
    column = target_cells(spec.target_in(dataset), table.columns)
    return column if spec.task.maps is None else media(column, table.folder)


def row_hashes(
    inputs: Mapping[str, Column], keys: Mapping[str, Any], table: Table, cache: Cache
) -> np.ndarray | None:
    """Return a number for each row that is the same for the same inputs, None if that is costly."""
    if bytes_on_disk(inputs) > MOST_BYTES:
        return None
    if not table.mapped:
        return hash_rows(inputs)
    entry = cache.get("hashes", keys, lambda folder: np.save(folder / HASHES, hash_rows(inputs)))
    found: np.ndarray = np.load(entry / HASHES)
    return found


def require_columns(
    name: str, spec: DatasetSpec, tasks: Mapping[str, TaskSpec], table: Table
) -> None:
    """Check that all columns that are named are there.

    Raises:
        PollinateError: one isn't.
    """
    for use, column in uses(name, spec, tasks):
        if column not in table.columns:
            known = hint(column, table.names, "columns")
            raise PollinateError(
                f"data.datasets.{name}: {use} names the column {column!r}, which is not in "
                f"{spec.source.location}{known}"
            )


def uses(name: str, spec: DatasetSpec, tasks: Mapping[str, TaskSpec]) -> Iterator[tuple[str, str]]:
    """Yield (what a column is used for, its name)."""
    for modality, given in spec.inputs.items():
        yield from ((f"inputs.{modality}", column) for column in columns_named(given))
    for task, one in tasks.items():
        for modality in one.task.modalities:
            if modality not in spec.inputs:
                raise PollinateError(
                    f"task {task} pairs {' and '.join(one.task.modalities)}, but data set {name} "
                    f"has only {', '.join(spec.inputs)}: add it to the inputs"
                )
        columns = columns_named(one.target_in(name))
        yield from ((f"target of task {task}", column) for column in columns)

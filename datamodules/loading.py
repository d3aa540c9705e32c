"""From a source to rows that are checked, split and prepared, and tasks that know their labels."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datamodules.arrays import save_array
from datamodules.cache import Cache
from datamodules.data_errors import BadRows
from datamodules.dataset import Dataset
from datamodules.inputs import (
    MAX_HASHED_BYTES,
    InputColumns,
    bytes_on_disk,
    columns_named,
    has_all_modalities,
    hash_rows,
    input_cells,
    input_key,
    resolve_media,
    target_cells,
)
from datamodules.label_maps import MapFormat, MapStore, prepare_maps, prepare_maps_cached
from datamodules.labelled_task import LabelledTask
from datamodules.modalities.base import InputStore, Modality, PreparedInputs, StreamedStore
from datamodules.modalities.forms import forms_of, modality_of
from datamodules.modalities.prompt import PromptModality
from datamodules.modalities.text import TextModality, has_text
from datamodules.splits import split_rows
from datamodules.table import Column, SourceTable, take
from pollinate.errors import PollinateError, UsageError
from pollinate.suggest import hint

HASHES = "hashes.npy"


@dataclass
class LoadedDataset:
    """A data set's rows, checked and split.

    table: all N rows.
    inputs: {modality: N raw cells}.
    keys: {modality: what its cells depend on}; see ``input_key``.
    targets: {task: N raw cells}.
    rows: {split: rows, sorted}.
    bad: rows that can't be used; they are in no split.
    maps: {task: targets that have a value for each pixel, of N rows}.
    hashes: (N,) uint64, equal for rows with the same inputs; None where that takes too long.
    dealt: digest of the splits as they were drawn, before bad rows were left out.
    prompts: {task that answers in words: N texts that it goes on with, None where a row has none}.
    """

    table: SourceTable
    inputs: dict[str, Column]
    keys: dict[str, Any]
    targets: dict[str, Column]
    rows: dict[str, np.ndarray]
    bad: BadRows
    hashes: np.ndarray | None = field(default=None, repr=False)
    maps: dict[str, MapStore] = field(default_factory=dict)
    dealt: str = ""
    prompts: dict[str, Column] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Of the table's content and of the files that it names."""
        names_files = self.table.has_paths and set(self.inputs) - {"text"}
        state = hashlib.sha256()
        if self.hashes is not None and names_files:
            state.update(self.hashes.tobytes())
        elif not self.maps:
            return self.table.digest
        for store in self.maps.values():
            state.update(store.digest.encode())
        return f"{self.table.digest}-{state.hexdigest()[:12]}"

    def target(self, task: str, split: str) -> Column:
        return take(self.targets[task], self.rows[split])

    def label(self, task: str, split: str) -> Column:
        """Return what a task learns from in one split: its raw labels, or prepared maps."""
        if task in self.maps:
            return self.maps[task].column(self.rows[split])
        return self.target(task, split)

    def input(self, modality: str, split: str) -> Column:
        return take(self.inputs[modality], self.rows[split])


def table_digest(digest: str) -> str:
    """Return the part of ``LoadedDataset.digest`` that doesn't depend on a run's tasks."""
    return digest.partition("-")[0]


def load_dataset(
    name: str,
    spec: Dataset,
    tasks: Mapping[str, LabelledTask],
    split_seed: int,
    cache: Cache,
    every_column: bool = False,
    bad_first: bool = False,
) -> LoadedDataset:
    """Read a data set, deal its rows out, and leave out those that can't be used.

    The rows are stratified by the first task's labels, unless the split says otherwise. Labels
    that can't be used change nothing for the other rows: other tasks have other ones.

    Args:
        name: of the data set.
        spec: its source, inputs and split.
        tasks: {task: what it is}, of those with rows in it.
        split_seed: of the split.
        cache: where what takes long is kept.
        every_column: whether columns are read that nothing needs.
        bad_first: whether bad rows are left out before the draw, as in runs that don't know what
            was dealt.

    Raises:
        PollinateError: rows can't be read, or a column that is needed is missing.
    """
    needed = {column for _, column in named_columns(name, spec, tasks)} | spec.split_columns
    wanted = None if every_column else needed
    try:
        if spec.streaming:
            table = spec.source.stream(cache, streamed_columns(name, spec, tasks), wanted)
        else:
            table = (
                spec.source.load(cache)
                if wanted is None
                else spec.source.load_columns(cache, wanted)
            )
    except PollinateError as error:
        raise PollinateError(f"data set {name}: {error}") from error
    require_columns(name, spec, tasks, table)
    bad = BadRows(name, table)
    bad.add("", table.bad)
    readable = bad.without(np.arange(len(table)))
    inputs = input_cells(spec.inputs, table)
    prompts = {t: o.prompt.cells(table.columns) for t, o in tasks.items() if o.prompt is not None}
    targets = {task: raw_targets(one, name, inputs, table) for task, one in tasks.items()}
    for task, values in targets.items():
        columns = "+".join(columns_named(tasks[task].target_in(name)))
        bad.add(columns, tasks[task].problems(values, inputs))
    strata = next(
        (targets[t] for t, o in tasks.items() if o.maps is None and name not in o.unlabelled),
        None,
    )
    known = bad.without(readable) if bad_first else readable
    try:
        drawn = split_rows(spec.split_of(table), table.columns, known, strata, split_seed)
    except PollinateError as error:
        raise PollinateError(f"data set {name}: {error}") from error
    rows, dealt = {split: bad.without(own) for split, own in drawn.items()}, rows_digest(drawn)
    if spec.streaming:  # what needs all inputs at once is left out
        return LoadedDataset(table, inputs, {}, targets, rows, bad, dealt=dealt, prompts=prompts)
    keys = {m: input_key(m, spec.inputs[m], cells, table) for m, cells in inputs.items()}
    # of rows without inputs all that is read is their prompts
    said = {task: prompt_key(tasks[task], table) for task in prompts}
    hashes = row_hashes(inputs or prompts, keys or said, table, cache)
    return LoadedDataset(
        table, inputs, keys, targets, rows, bad, hashes, dealt=dealt, prompts=prompts
    )


def streamed_columns(name: str, spec: Dataset, tasks: Mapping[str, LabelledTask]) -> list[str]:
    """Return the columns that stay in the file: of inputs, and of prompts if nothing else is."""
    inputs = [column for given in spec.inputs.values() for column in columns_named(given)]
    targets = {c for task in tasks.values() for c in columns_named(task.target_in(name))}
    kept = targets | spec.split_columns
    asked = [c for task in tasks.values() if task.prompt is not None for c in task.prompt.columns]
    return list(dict.fromkeys([*inputs, *(column for column in asked if column not in kept)]))


def prompt_key(task: LabelledTask, table: SourceTable) -> list[Any]:
    """Return plain values that change when a task's prompts do."""
    assert task.prompt is not None
    return [table.digest, task.prompt.template]


def rows_digest(rows: Mapping[str, np.ndarray]) -> str:
    """Return a digest of {split: rows}."""
    state = hashlib.sha256()
    for split, own in rows.items():
        state.update(f"{split} {len(own)}".encode())
        state.update(own.astype("<i8").tobytes())
    return state.hexdigest()[:12]


def raw_targets(
    spec: LabelledTask, dataset: str, inputs: Mapping[str, Column], table: SourceTable
) -> Column:
    """Return a task's N raw targets in one data set, the paths of maps resolved.

    They are all empty where there are no labels.
    """
    if dataset in spec.unlabelled:
        return [None] * len(table)
    if spec.modalities:
        return has_all_modalities(inputs, spec.modalities)
    column = target_cells(spec.target_in(dataset), table.columns)
    return column if spec.maps is None else resolve_media(column, table)


def row_hashes(
    inputs: Mapping[str, Column], keys: Mapping[str, Any], table: SourceTable, cache: Cache
) -> np.ndarray | None:
    """Return a number for each row that is the same for the same inputs, None if that is costly."""
    if bytes_on_disk(inputs) > MAX_HASHED_BYTES:
        return None
    if not table.mapped:
        return hash_rows(inputs)
    entry = cache.get("hashes", keys, lambda folder: save_array(folder / HASHES, hash_rows(inputs)))
    found: np.ndarray = np.load(entry / HASHES)
    return found


def require_columns(
    name: str, spec: Dataset, tasks: Mapping[str, LabelledTask], table: SourceTable
) -> None:
    """Check that all columns that are named are there."""
    for use, column in named_columns(name, spec, tasks):
        if column not in table.columns:
            if why := table.unread.get(column):
                raise PollinateError(
                    f"data set {name}: {use} names the column {column!r}, which can't be read: "
                    f"{why}"
                )
            require_in_every_split(name, use, column, table)
            known = hint(column, table.names, "columns")
            raise PollinateError(
                f"data set {name}: {use} names the column {column!r}, which is not in "
                f"{spec.source.location}{known}"
            )


def require_in_every_split(name: str, use: str, column: str, table: SourceTable) -> None:
    """Check that a column isn't one that only some splits have."""
    if column in table.partial:
        raise PollinateError(
            f"data set {name}: {use} names the column {column!r}, which {table.partial[column]} "
            "lacks; add it there, with empty cells where nothing is known"
        )


def named_columns(
    name: str, spec: Dataset, tasks: Mapping[str, LabelledTask]
) -> Iterator[tuple[str, str]]:
    """Yield (what a column is used for, its name)."""
    for modality, given in spec.inputs.items():
        yield from ((f"inputs.{modality}", column) for column in columns_named(given))
    for task, one in tasks.items():
        if one.prompt is not None:
            yield from ((f"prompt of task {task}", column) for column in one.prompt.columns)
        for modality in one.modalities:
            if modality not in spec.inputs:
                raise PollinateError(
                    f"task {task} pairs {' and '.join(one.modalities)}, but data set {name} "
                    f"has only {', '.join(spec.inputs)}: add it to the inputs"
                )
        columns = columns_named(one.target_in(name))
        yield from ((f"target of task {task}", column) for column in columns)
    stratify = (spec.split or {}).get("stratify") or []
    yield from (("split.stratify", column) for column in columns_named(stratify))


CHUNK = 64  # maps that are in memory at a time


def load_maps(
    loaded: LoadedDataset,
    tasks: Mapping[str, LabelledTask],
    dataset: Dataset,
    modalities: Mapping[str, Modality],
    cache: Cache,
) -> None:
    """Prepare the targets that have a value for each pixel, and note those that can't be used.

    Raises:
        UsageError: what training does to inputs can't be done to maps.
    """
    for task, spec in tasks.items():
        if spec.maps is not None:
            columns = columns_named(spec.target_in(loaded.bad.name))
            size = map_size(task, modalities[spec.maps.modality])
            store = prepare_task_maps(
                spec.maps, columns, loaded.targets[task], loaded, dataset, size, cache
            )
            loaded.maps[task] = store
            loaded.bad.add("+".join(columns), store.errors)


def map_size(task: str, modality: Modality) -> tuple[int, int]:
    try:
        size = modality.map_size()
    except UsageError as error:
        raise UsageError(f"task {task}: {error}") from error
    assert size is not None, "formats name a modality that maps can lie on"
    return size


def prepare_task_maps(
    form: MapFormat,
    names: Sequence[str],
    cells: Column,
    loaded: LoadedDataset,
    dataset: Dataset,
    size: tuple[int, int],
    cache: Cache,
) -> MapStore:
    """Prepare the maps in the named columns; those of files are kept on disk for the next time."""
    table, pictures = loaded.table, loaded.inputs[form.modality]
    if not (table.mapped or table.streamed):
        return prepare_maps(form, cells, pictures, size)
    given = dataset.inputs[form.modality]
    # of pictures that are streamed only the table is known
    key = loaded.keys.get(form.modality, [table.digest, given])
    own = input_key("map", names, cells, table)
    return prepare_maps_cached(form, cells, pictures, size, cache, [own, key])


def encode_map_presence(task: LabelledTask, maps: Column) -> tuple[Tensor, dict[int, str]]:
    """Return ``present`` and ``unseen`` of ``encode``, of maps of N rows, some at a time."""
    present: list[Tensor] = []
    unseen: dict[int, str] = {}
    for start in range(0, len(maps), CHUNK):
        found = task.encode(maps[start : start + CHUNK])
        present.append(found.present)
        unseen |= {start + row: label for row, label in found.unseen.items()}
    return torch.cat(present) if present else torch.zeros(0, dtype=torch.bool), unseen


def prepare_inputs(
    loaded: LoadedDataset,
    inputs: Mapping[str, InputColumns],
    modalities: Mapping[str, Modality],
    cache: Cache,
) -> dict[str, InputStore]:
    """Return {form: prepared inputs}, and note the rows where that fails in ``loaded.bad``.

    Args:
        loaded: the data set.
        inputs: {modality: its column, or columns}.
        modalities: {form of a modality: how raw values become tensors}.
        cache: where results are kept that take long to compute.
    """
    stores: dict[str, InputStore] = {}
    for form in (form for m in loaded.inputs for form in forms_of(m, modalities)):
        modality = modality_of(form)
        given, kind, cells = (
            columns_named(inputs[modality]),
            modalities[form],
            loaded.inputs[modality],
        )
        key = loaded.keys.get(modality)  # none of what is streamed
        stores[form] = prepare_cells(loaded, kind, cells, given, key, cache)
    return stores


def prepare_cells(
    loaded: LoadedDataset,
    kind: Modality,
    cells: Column,
    columns: Sequence[str],
    key: object,
    cache: Cache,
) -> InputStore:
    """Prepare cells, now or as rows are asked for; note the rows where that fails.

    Args:
        loaded: the data set.
        kind: how cells become tensors.
        cells: N of them.
        columns: that they are made from.
        key: plain values that change when the cells do.
        cache: where results are kept that take long to compute.
    """
    streamed, known = loaded.table.streamed, loaded.table.columns
    if any(column in streamed for column in columns):
        has = [
            streamed[name] if name in streamed else np.array([has_text(v) for v in known[name]])
            for name in columns
        ]
        return StreamedStore(kind, cells, np.any(has, axis=0), loaded.table)
    prepared = prepare_column(kind, cells, loaded, key, cache)
    loaded.bad.add("+".join(columns), prepared.errors)
    return prepared.store


def prepare_prompts(
    loaded: LoadedDataset,
    tasks: Mapping[str, LabelledTask],
    prompts: Mapping[str, PromptModality],
    cache: Cache,
) -> dict[str, InputStore]:
    """Return {task: its prompts}, and note the rows where that fails in ``loaded.bad``.

    Args:
        loaded: the data set.
        tasks: {task: what it is}.
        prompts: {task that answers in words: how its prompts become tokens}.
        cache: where results are kept that take long to compute.
    """
    stores: dict[str, InputStore] = {}
    for task, cells in loaded.prompts.items():
        prompt, kind = tasks[task].prompt, prompts[task]
        assert prompt is not None
        key = prompt_key(tasks[task], loaded.table)
        stores[task] = prepare_cells(loaded, kind, cells, prompt.columns, key, cache)
    return stores


def refuse_empty_rows(loaded: LoadedDataset, stores: Sequence[InputStore]) -> None:
    """Note the rows of which nothing is there, in ``loaded.bad``."""
    empty = ~np.any([store.has for store in stores], axis=0)
    wrong = "all inputs of the row are empty" if len(stores) > 1 else "the input is empty"
    loaded.bad.add("", dict.fromkeys(np.flatnonzero(empty).tolist(), wrong))


def prepare_column(
    modality: Modality, cells: Column, loaded: LoadedDataset, key: object, cache: Cache
) -> PreparedInputs:
    """Prepare a column; what comes from files is kept on disk for the next time."""
    if not loaded.table.mapped:
        return modality.prepare(cells)
    return modality.prepare_cached(cells, cache, key)


def learn_modalities(
    modalities: Mapping[str, Modality],
    loaded: Mapping[str, LoadedDataset],
    learnt: Mapping[str, Any] | None,
) -> None:
    """Learn the tokenizer from the training rows, or take the given one.

    Args:
        modalities: {modality: how raw values become tensors}.
        loaded: {data set: its rows}.
        learnt: of the run to go on with; None: learn from the data.

    Raises:
        PollinateError: the data aren't those of the run to go on with.
    """
    if learnt is not None:
        require_same_data(loaded, learnt["digests"])
        require_same_rows(loaded, learnt.get("rows", {}))
    for name, modality in modalities.items():
        if learnt is not None:
            modality.load_state_dict(learnt["modalities"][name])
        else:
            kind = modality_of(name)
            own = [data.input(kind, "train") for data in loaded.values() if kind in data.inputs]
            if isinstance(modality, TextModality):
                own += [
                    take(cells, data.rows["train"])
                    for data in loaded.values()
                    for cells in data.prompts.values()
                ]
            modality.fit(own)


def learn_tasks(
    tasks: Mapping[str, LabelledTask],
    loaded: Mapping[str, LoadedDataset],
    learnt: Mapping[str, Any] | None,
) -> None:
    """Learn vocabularies and scales from the training rows, or take the given ones.

    Args:
        tasks: {task: what it is and its data sets}.
        loaded, learnt: as for ``learn_modalities``.
    """
    for name, spec in tasks.items():
        if learnt is not None:
            spec.load_state_dict(learnt["tasks"][name])
        elif spec.known is not None:
            spec.load_state_dict(dict(spec.known))
        else:
            learn_task(name, spec, loaded)


def learn_task(name: str, spec: LabelledTask, loaded: Mapping[str, LoadedDataset]) -> None:
    """Learn one task's vocabulary and scale from the training rows."""
    columns = [loaded[dataset].label(name, "train") for dataset in spec.datasets]
    if not any(map(len, columns)):
        raise PollinateError(
            f"task {name} has no training rows (data set {', '.join(spec.datasets)}); "
            "check its split"
        )
    try:
        spec.learn(value for column in columns for value in column)
    except PollinateError as error:
        raise PollinateError(f"task {name}: {error}") from error


def require_same_data(loaded: Mapping[str, LoadedDataset], expected: Mapping[str, str]) -> None:
    """Check that data sets are those that a run was started with.

    Args:
        loaded: {data set: its rows}.
        expected: {data set: its digest then}.
    """
    # models that were merged had other tasks: they agree on the table, not on tasks' maps
    changed = [
        name
        for name, data in loaded.items()
        if expected.get(name) not in (data.digest, data.table.digest)
    ]
    if changed:
        raise PollinateError(
            f"the data of {', '.join(changed)} changed since the run was started, so it can't "
            "be resumed or measured exactly; restore the data or start a new run"
        )


def require_same_rows(loaded: Mapping[str, LoadedDataset], expected: Mapping[str, str]) -> None:
    """Check that rows are dealt out as when a run was started.

    Args:
        loaded: {data set: its rows}.
        expected: {data set: digest of its splits}, of those of which it is known.
    """
    changed = [n for n, data in loaded.items() if expected.get(n, data.dealt) != data.dealt]
    if changed:
        raise PollinateError(
            f"the rows of {', '.join(changed)} are drawn otherwise than when the run was started, "
            "so it can't be resumed or measured exactly; use the version of Pollinate that it was "
            "started with, or start a new run"
        )

"""The target: labelled training rows of each task, as they are in their source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datamodules.labelled_task import LabelledTask
from datamodules.loading import LoadedDataset, learn_task
from datamodules.mixed_datamodule import MixedDataModule
from datamodules.table import take
from lightning_modules.tasks.base import as_task
from lightning_modules.transferability.base import Absent
from pollinate.errors import PollinateError

Cells = dict[str, list[Any]]  # {modality: N raw values, None where a row has none}
RowPlace = tuple[str, int]  # data set, its row


@dataclass
class TargetTask:
    """One task of the target, and its n rows of the sample.

    kind: its type, for people.
    modalities: that its rows have.
    rows: (n,) places among the sample's rows.
    labels: (n, K), see ``Task.label_columns``.
    classes: (n,), see ``Task.class_numbers``.
    """

    kind: str
    modalities: tuple[str, ...]
    rows: np.ndarray
    labels: Tensor | Absent
    classes: Tensor | Absent


@dataclass
class TargetSample:
    """columns: raw values of N rows; tasks: {name: its rows of these}."""

    columns: Cells
    tasks: dict[str, TargetTask]


@dataclass
class DrawnRows:
    """places: n rows of a task; labels: (n, K) and classes: (n,) of them, None: none such."""

    places: list[RowPlace]
    labels: Tensor | None = None
    classes: Tensor | None = None


def sample_target(data: MixedDataModule, rows: int, seed: int) -> TargetSample:
    """Read the data and draw labelled training rows of each task.

    All tasks draw from a data set in the same order, so that they have most rows in common.

    Raises:
        PollinateError: data can't be read, or a task has no labelled training rows.
    """
    data.loaded = {name: load(data, name) for name in data.datasets}
    order = shuffled(data.loaded, seed)
    drawn: dict[str, DrawnRows] = {}
    for name, spec in data.tasks.items():
        learn_task(name, spec, data.loaded)
        drawn[name] = draw(name, spec, data.loaded, order, rows)
    places = list(dict.fromkeys(place for own in drawn.values() for place in own.places))
    number = {place: at for at, place in enumerate(places)}
    tasks = {
        name: target_task(data.tasks[name], data.loaded, own, number) for name, own in drawn.items()
    }
    return TargetSample(cells(data.loaded, places), tasks)


def load(data: MixedDataModule, name: str) -> LoadedDataset:
    """Read one data set, without its bad rows.

    Raises:
        PollinateError: it can't be read, or has bad rows that are not to be skipped.
    """
    loaded = data.load(name)
    if not data.policy.skip_bad_rows:
        loaded.bad.refuse()
    loaded.rows = {split: loaded.bad.without(rows) for split, rows in loaded.rows.items()}
    return loaded


def shuffled(loaded: Mapping[str, LoadedDataset], seed: int) -> list[RowPlace]:
    places = [(name, int(row)) for name, one in loaded.items() for row in one.rows["train"]]
    order = np.random.default_rng(seed).permutation(len(places))
    return [places[at] for at in order]


def draw(
    name: str,
    spec: LabelledTask,
    loaded: Mapping[str, LoadedDataset],
    order: Sequence[RowPlace],
    rows: int,
) -> DrawnRows:
    """Return the first labelled rows of an order; none of a task whose targets are maps."""
    if spec.maps is not None:
        return DrawnRows([])
    encoded = {d: spec.encode(loaded[d].label(name, "train")) for d in spec.datasets}
    known = {
        (dataset, int(row)): at
        for dataset, one in encoded.items()
        for at, row in enumerate(loaded[dataset].rows["train"])
        if one.present[at]
    }
    if not known:
        raise PollinateError(
            f"task {name} has no labelled training rows (data set {', '.join(spec.datasets)}); "
            "check its target and split"
        )
    first = [place for place in order if place in known][:rows]
    found = DrawnRows([], None, None)
    for dataset, one in encoded.items():
        own = [place for place in first if place[0] == dataset]
        targets = one.targets[torch.tensor([known[place] for place in own], dtype=torch.int64)]
        found.places += own
        found.labels = joined(found.labels, as_task(spec).label_columns(targets))
        found.classes = joined(found.classes, spec.class_numbers(targets))
    return found


def joined(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    parts = [part for part in (one, other) if part is not None]
    return torch.cat(parts) if parts else None


def target_task(
    spec: LabelledTask,
    loaded: Mapping[str, LoadedDataset],
    drawn: DrawnRows,
    number: Mapping[RowPlace, int],
) -> TargetTask:
    kind = type(spec).__name__.lower()
    modalities = sorted({m for name in spec.datasets for m in loaded[name].inputs})
    no_row, no_class = f"a target of {kind} is no row of labels", f"{kind} has no classes"
    return TargetTask(
        kind,
        tuple(modalities),
        np.array([number[place] for place in drawn.places], dtype=np.int64),
        Absent(no_row) if drawn.labels is None else drawn.labels,
        Absent(f"{no_class} of which a row has one") if drawn.classes is None else drawn.classes,
    )


def cells(loaded: Mapping[str, LoadedDataset], places: Sequence[RowPlace]) -> Cells:
    """Return the raw values of rows, data set by data set in one go."""
    modalities = sorted({m for one in loaded.values() for m in one.inputs})
    found: Cells = {modality: [None] * len(places) for modality in modalities}
    for name, one in loaded.items():
        own = [at for at, place in enumerate(places) if place[0] == name]
        rows = np.array([places[at][1] for at in own], dtype=np.int64)
        for modality, column in one.inputs.items():
            for at, cell in zip(own, take(column, rows), strict=True):
                found[modality][at] = cell
    return found

"""The maps of a data set that was read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from datamodules.cache import Cache
from datamodules.columns import Column
from datamodules.inputs import columns_named, input_key
from datamodules.loading import DatasetSpec, Loaded, TaskSpec
from datamodules.maps.base import MapFormat
from datamodules.maps.store import MapStore, prepare, prepare_cached
from datamodules.modalities.base import Modality
from lightning_modules.tasks.base import Task
from pipeline.errors import UsageError

CHUNK = 64  # maps that are in memory at a time


def load_maps(
    loaded: Loaded,
    tasks: Mapping[str, TaskSpec],
    dataset: DatasetSpec,
    modalities: Mapping[str, Modality],
    cache: Cache,
) -> None:
    """Prepare the targets that have a value for each pixel, and note those that can't be used.

    Raises:
        UsageError: what training does to inputs can't be done to maps.
    """
    for task, spec in tasks.items():
        if spec.task.maps is not None:
            columns = columns_named(spec.target_in(loaded.bad.name))
            size = map_size(task, modalities[spec.task.maps.modality])
            store = prepared(
                spec.task.maps, columns, loaded.targets[task], loaded, dataset, size, cache
            )
            loaded.maps[task] = store
            loaded.bad.add("+".join(columns), store.errors)


def map_size(task: str, modality: Modality) -> tuple[int, int]:
    """Return the size of a task's maps."""
    try:
        size = modality.map_size()
    except UsageError as error:
        raise UsageError(f"task {task}: {error}") from error
    assert size is not None, "formats name a modality that maps can lie on"
    return size


def prepared(
    form: MapFormat,
    names: Sequence[str],
    cells: Column,
    loaded: Loaded,
    dataset: DatasetSpec,
    size: tuple[int, int],
    cache: Cache,
) -> MapStore:
    """Prepare the maps in the named columns; those of files are kept on disk for the next time."""
    table, pictures = loaded.table, loaded.inputs[form.modality]
    if not (table.mapped or table.streamed):
        return prepare(form, cells, pictures, size)
    given = dataset.inputs[form.modality]
    # of pictures that are streamed only the table is known
    key = loaded.keys.get(form.modality, [table.digest, given])
    own = input_key("map", names, cells, table)
    return prepare_cached(form, cells, pictures, size, cache, [own, key])


def labelled(task: Task, maps: Column) -> tuple[Tensor, dict[int, str]]:
    """Return ``present`` and ``unseen`` of ``encode``, of maps of N rows, some at a time."""
    present: list[Tensor] = []
    unseen: dict[int, str] = {}
    for start in range(0, len(maps), CHUNK):
        found = task.encode(maps[start : start + CHUNK])
        present.append(found.present)
        unseen |= {start + row: label for row, label in found.unseen.items()}
    return torch.cat(present) if present else torch.zeros(0, dtype=torch.bool), unseen

"""A data set's raw inputs become what training reads rows from."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from datamodules.cache import Cache
from datamodules.columns import Column
from datamodules.inputs import Given, columns_named
from datamodules.loading import Loaded
from datamodules.modalities.base import Modality, Prepared, Store
from datamodules.streaming.store import StreamedStore


def prepare_inputs(
    loaded: Loaded,
    inputs: Mapping[str, Given],
    modalities: Mapping[str, Modality],
    cache: Cache,
) -> dict[str, Store]:
    """Return {modality: prepared inputs}, and note the rows where that fails in ``loaded.bad``.

    Args:
        loaded: the data set.
        inputs: {modality: its column, or columns}.
        modalities: {modality: how raw values become tensors}.
        cache: where results are kept that take long to compute.
    """
    stores: dict[str, Store] = {}
    for modality, cells in loaded.inputs.items():
        given, kind = columns_named(inputs[modality]), modalities[modality]
        if loaded.table.streamed:
            has = np.any([loaded.table.streamed[column] for column in given], axis=0)
            stores[modality] = StreamedStore(kind, cells, has, loaded.table)
            continue
        prepared = prepared_column(kind, cells, loaded, loaded.keys[modality], cache)
        loaded.bad.add("+".join(given), prepared.errors)
        stores[modality] = prepared.store
    empty = ~np.any([store.has for store in stores.values()], axis=0)
    wrong = "all inputs of the row are empty" if len(stores) > 1 else "the input is empty"
    loaded.bad.add("", dict.fromkeys(np.flatnonzero(empty).tolist(), wrong))
    return stores


def prepared_column(
    modality: Modality, cells: Column, loaded: Loaded, key: object, cache: Cache
) -> Prepared:
    """Prepare a column; what comes from files is kept on disk for the next time."""
    if not loaded.table.mapped:
        return modality.prepare(cells)
    return modality.prepare_cached(cells, cache, key)

"""How long a model needs for one row on this machine."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, median

import torch

from datamodules.batch import Batch
from datamodules.mixed_datamodule import MixedDataModule
from datamodules.table import take
from lightning_modules.predictor import Predictor
from lightning_modules.task_network import TaskNetwork

WARM, TIMED = 3, 15  # rows of each data set


def latency_ms(checkpoint: Path, data: MixedDataModule, allow: Sequence[str] = ()) -> float:
    """Return the milliseconds that a network needs for a row, on the processor.

    The median over validation rows, which come one by one as to a server, and the mean of the data
    sets'. Reading and preparing them isn't counted.

    Args:
        checkpoint: of the network.
        data: set up, whose rows it reads as it was trained to.
        allow: packages, besides our own, whose classes the checkpoint may name.
    """
    predictor = Predictor.load(checkpoint, allow)
    read = {name for names in predictor.network.routes.values() for name in names}
    batches: dict[str, list[Batch]] = {}
    for name in (name for name in data.datasets if name in read):
        loaded = data.loaded[name]
        rows = loaded.rows["valid"][: WARM + TIMED]
        columns = {modality: list(take(own, rows)) for modality, own in loaded.inputs.items()}
        numbers = [row % len(rows) for row in range(WARM + TIMED)] if len(rows) else []
        batches[name] = [predictor.read([row], columns, name, {})[0] for row in numbers]
    return median_ms(predictor.network, batches)


def median_ms(network: TaskNetwork, batches: Mapping[str, Sequence[Batch]]) -> float:
    """Return the median milliseconds that a network needs for a batch, the mean of data sets.

    Args:
        network: which answers, and doesn't learn.
        batches: {data set: batches, of which the first ones aren't timed}.
    """
    found = []
    with torch.inference_mode():
        for name, own in batches.items():
            tasks = [task for task, names in network.routes.items() if name in names]
            taken = []
            for batch in own:
                begin = time.perf_counter()
                network({name: batch}, tasks)
                taken.append(time.perf_counter() - begin)
            if tasks and taken:
                found.append(1000 * median(taken[WARM:]))
    return fmean(found) if found else 0.0

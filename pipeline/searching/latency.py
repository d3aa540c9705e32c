"""How long a model needs for one row on this machine."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, median

import numpy as np
import torch

from datamodules.mixed_datamodule import MixedDataModule
from lightning_modules.predictor import Predictor

WARM, TIMED = 3, 15  # rows of each data set


def latency_ms(checkpoint: Path, data: MixedDataModule, allow: Sequence[str] = ()) -> float:
    """Return the milliseconds that a network needs for a row, on the processor.

    The median over validation rows, which come one by one as to a server, and the mean of the data
    sets'. Reading and preparing them isn't counted.

    Args:
        checkpoint: of the network.
        data: set up, whose rows it reads.
        allow: packages, besides our own, whose classes the checkpoint may name.
    """
    network = Predictor.load(checkpoint, allow).network
    read = {name for names in network.routes.values() for name in names}
    found = []
    with torch.inference_mode():
        for name in data.datasets:
            part = data.parts["valid"][name]
            if name not in read or not part.size:
                continue
            tasks = [task for task, names in network.routes.items() if name in names]
            taken = []
            for row in range(WARM + TIMED):
                batch = part.batch(np.array([row % part.size]))
                begin = time.perf_counter()
                network({name: batch}, tasks)
                taken.append(time.perf_counter() - begin)
            found.append(1000 * median(taken[WARM:]))
    return fmean(found) if found else 0.0

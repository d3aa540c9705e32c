"""A step of a few training rows, to learn what networks make of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from datamodules.batch import MixedBatch
from lightning_modules.trace import Trace
from lightning_modules.transfer.base import TransferStep

if TYPE_CHECKING:
    from datamodules.mixed import MixedDataModule
    from lightning_modules.multitask import MultiTaskModule

ROWS = 2  # of each data set


def probed(module: MultiTaskModule, datamodule: MixedDataModule) -> TransferStep:
    """Return the first rows of each data set, and what the run's network makes of them."""
    parts = datamodule.parts["train"]
    batches = {name: part.batch(np.arange(min(ROWS, part.size))) for name, part in parts.items()}
    sizes = {name: len(batch.index) for name, batch in batches.items()}
    network, trace = module.network, Trace()
    training = network.training
    network.eval()
    with torch.no_grad():
        outputs = network(batches, trace=trace)
    network.train(training)
    return TransferStep(MixedBatch(batches, {}, sizes), outputs, trace)

"""The transfer contract: how knowledge from a source reaches this run."""

from __future__ import annotations

import numpy as np
import torch

from datamodules.batch import MixedBatch
from datamodules.mixed_datamodule import MixedDataModule
from lightning_modules.hooks import HookedModule, TrainingHooks, TrainingStep
from lightning_modules.network import ForwardTrace
from pollinate.recipes import Buildable


class Transfer(TrainingHooks, metaclass=Buildable):
    """A method that brings knowledge from a source into this run.

    Examples:
        >>> import torch, pollinate as po
        >>> class Auxiliary(po.transfer.Transfer):  # one task is there to help the others
        ...     def weight_losses(self, losses):
        ...         return losses | {"stars": 0.1 * losses["stars"]}
        >>> Auxiliary().weight_losses({"mood": torch.tensor(1.0), "stars": torch.tensor(2.0)})
        {'mood': tensor(1.), 'stars': tensor(0.2000)}
    """


PEER_PREFIX = "task:"  # task:NAME is another task of the same run


def peer_task(source: str) -> str | None:
    """Return the task of this run that ``task:NAME`` names; None: the source is another model."""
    return source.removeprefix(PEER_PREFIX) if source.startswith(PEER_PREFIX) else None


PROBE_ROWS = 2  # of each data set


def probe_step(module: HookedModule, datamodule: MixedDataModule) -> TrainingStep:
    """Return the first rows of each data set, and what the run's network makes of them."""
    parts = datamodule.parts["train"]
    batches = {
        name: part.batch(np.arange(min(PROBE_ROWS, part.size))) for name, part in parts.items()
    }
    sizes = {name: len(batch.index) for name, batch in batches.items()}
    network, trace = module.network, ForwardTrace()
    training = network.training
    network.eval()
    with torch.no_grad():
        outputs = network(batches, trace=trace)
    network.train(training)
    return TrainingStep(MixedBatch(batches, {}, sizes), outputs, trace)

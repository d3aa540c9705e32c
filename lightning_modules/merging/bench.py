"""Runs the merged network, and those it is made of, on the data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice

import numpy as np
import torch
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor

from datamodules.batch import Batch
from datamodules.mixed import MixedDataModule
from lightning_modules.averaging import State
from lightning_modules.merging.models import Models
from lightning_modules.merging.statistics import recompute
from lightning_modules.multitask import MultiTaskModule
from lightning_modules.network import MultiTaskNetwork
from pipeline.errors import UsageError

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
Numbers = dict[str, dict[str, float]]  # {task: {metric: value}}


class Bench:
    """The network of the result, into which weights are put to be tried.

    Args:
        models: what is merged.
        build: makes data and module; asked when data are needed for the first time.
        stale: BatchNorm layers whose statistics are to be computed again; see ``stale``.
        steps: training steps over which that is done.
        device: where networks run.
    """

    def __init__(
        self,
        models: Models,
        build: Callable[[], tuple[MixedDataModule, MultiTaskModule]],
        stale: Sequence[str],
        steps: int,
        device: torch.device,
    ) -> None:
        self.models = models
        self.stale = list(stale)
        self.steps = steps
        self.device = device
        self._build = build

    @cached_property
    def _built(self) -> tuple[MixedDataModule, MultiTaskModule]:
        datamodule, module = self._build()
        return datamodule, module.to(self.device).eval()

    @property
    def datamodule(self) -> MixedDataModule:
        """The data of all models, set up."""
        return self._built[0]

    @property
    def module(self) -> MultiTaskModule:
        """The result's network with its tasks, on the device."""
        return self._built[1]

    @property
    def network(self) -> MultiTaskNetwork:
        """The result's network, on the device."""
        return self.module.network

    def load(self, state: State) -> None:
        """Give the network the weights of a result, and statistics that fit them."""
        self.network.load_state_dict(dict(state))
        if self.stale:
            loader = islice(self.datamodule.train_dataloader(), self.steps)
            recompute(self.network, self.stale, (self._moved(step.batches) for step in loader))
        self.network.eval()

    def load_model(self, model: int) -> None:
        """Give the network the weights of one of the models; only its own tasks can be asked."""
        self.network.load_state_dict(dict(self.models.read[model]()), strict=False)
        self.network.eval()

    def completed(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Load a result; return it with the statistics that fit it."""
        self.load(state)
        own = self.network.state_dict()
        names = [f"{layer}.{part}" for layer in self.stale for part in STATISTICS]
        # copies: the network's own change as soon as another model is tried
        return state | {n: own[n].to("cpu", state[n].dtype, copy=True) for n in names}

    def score(self, state: State) -> float:
        """Return the mean of the tasks' main metrics on the validation split.

        Raises:
            UsageError: no task has a labelled row there.
        """
        self.load(state)
        numbers = self.scores("valid")
        mains = [values[self.module.tasks[task].score] for task, values in numbers.items()]
        known = [value for value in mains if value == value]
        if not known:
            raise UsageError(
                "coefficients are chosen by scores on the validation split, and no task has a "
                "labelled row there; label some, or give the coefficients: method=average"
            )
        return sum(known) / len(known)

    def scores(self, split: str) -> Numbers:
        """Return {task: {metric: value}} of the weights that are loaded."""
        with torch.inference_mode():
            for step in self.datamodule.evaluation_loader(split):
                self.module.validation_step(move_data_to_device(step, self.device), 0)
        numbers, _ = self.module.scores.take()
        return numbers

    def draw(
        self, split: str, tasks: Sequence[str], count: int, size: int, seed: int
    ) -> Iterator[dict[str, Batch]]:
        """Yield rows drawn without replacement from each data set of some tasks, one at a time.

        Args:
            split: train, valid or test.
            tasks: whose data sets.
            count: rows of each data set, at most.
            size: rows at a time.
            seed: of the draws.
        """
        generator = np.random.default_rng(seed)
        for name in dict.fromkeys(n for task in tasks for n in self.network.routes[task]):
            part = self.datamodule.parts[split][name]
            rows = np.sort(generator.permutation(part.size)[:count])
            for start in range(0, len(rows), size):
                yield self._moved({name: part.batch(rows[start : start + size])})

    def mixed(self, split: str, count: int, generator: np.random.Generator) -> dict[str, Batch]:
        """Return rows of every data set, drawn at random, ``count`` of each at most."""
        parts = self.datamodule.parts[split]
        chosen = {n: generator.permutation(p.size)[:count] for n, p in parts.items() if p.size}
        return self._moved({n: parts[n].batch(np.sort(rows)) for n, rows in chosen.items()})

    def _moved(self, batches: Mapping[str, Batch]) -> dict[str, Batch]:
        moved: dict[str, Batch] = move_data_to_device(dict(batches), self.device)
        return moved

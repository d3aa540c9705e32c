"""Runs merged networks, and those they are made of, on data, with BatchNorm statistics that fit."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from datamodules.batch import Batch
from datamodules.mixed_datamodule import MixedDataModule
from lightning_modules.evaluation_module import EvaluationModule
from lightning_modules.merging.models import Models
from lightning_modules.state_dicts import StateDict
from lightning_modules.task_network import TaskNetwork
from pollinate.errors import UsageError

RUNNING_STATISTICS = ("running_mean", "running_var")


def batch_norms(network: nn.Module) -> dict[str, _BatchNorm]:
    """Return {name: layer} of those with running statistics."""
    return {
        name: layer
        for name, layer in network.named_modules()
        if isinstance(layer, _BatchNorm) and layer.track_running_stats
    }


def stale_batch_norms(models: Models, network: nn.Module) -> list[str]:
    """Return the layers whose statistics don't fit the merged model.

    These are the ones in a part, an encoder or the trunk, whose weights differ between the models.
    Where statistics are the same in several models the layer was frozen, and it stays so.
    """
    layers = batch_norms(network)
    if not layers:
        return []
    changed, shifted = set(), set()
    for unit, tensors, start in models.stream():
        others = [*tensors[1:], *([] if start is None else [start])]
        if models.is_merged(unit) and not all(torch.equal(tensors[0], one) for one in others):
            changed |= {network_part(name) for name in unit.names}
        alone = len(tensors) == 1
        if alone or not all(torch.equal(tensors[0], one) for one in tensors[1:]):
            shifted |= {n.rpartition(".")[0] for n in unit.names if n.endswith(RUNNING_STATISTICS)}
    return [name for name in layers if network_part(name) in changed and name in shifted]


def network_part(name: str) -> str:
    """Return the part of a network that a name is in: ``encoders.image`` or ``trunk``."""
    first, _, rest = name.partition(".")
    return first if first == "trunk" else f"{first}.{rest.partition('.')[0]}"


def recompute_statistics(
    network: TaskNetwork, layers: Collection[str], batches: Iterable[Mapping[str, Batch]]
) -> None:
    """Let layers' statistics be the means over batches, all else being as when it answers.

    The mean of a layer's batch means and of its batch variances, all batches alike, as in Izmailov
    et al. 2018, "Averaging weights leads to wider optima", section 3.2.

    Args:
        network: its weights stay.
        layers: names.
        batches: {data set: rows} of some training steps.
    """
    with averaging_statistics(network, layers), torch.inference_mode():
        for batch in batches:
            network(batch)


@contextmanager
def averaging_statistics(network: nn.Module, layers: Collection[str]) -> Iterator[None]:
    """Have layers average the statistics of what they are given, from none on."""
    chosen = [layer for name, layer in batch_norms(network).items() if name in layers]
    before = [layer.momentum for layer in chosen]
    network.eval()
    for layer in chosen:
        layer.reset_running_stats()
        layer.momentum = None  # all batches alike
        layer.train()
    try:
        yield
    finally:
        for layer, momentum in zip(chosen, before, strict=True):
            layer.momentum = momentum
            layer.eval()


STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
TaskMetrics = dict[str, dict[str, float]]  # {task: {metric: value}}


class MergeEvaluator:
    """The network of the result, into which weights are put to be tried.

    Args:
        models: what is merged.
        build: makes data and module; asked when data are needed for the first time.
        stale: BatchNorm layers whose statistics are computed again; see ``stale_batch_norms``.
        steps: training steps over which that is done.
        device: where networks run.
    """

    def __init__(
        self,
        models: Models,
        build: Callable[[], tuple[MixedDataModule, EvaluationModule]],
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
    def _built(self) -> tuple[MixedDataModule, EvaluationModule]:
        datamodule, module = self._build()
        return datamodule, module.to(self.device).eval()

    @property
    def datamodule(self) -> MixedDataModule:
        """The data of all models, set up."""
        return self._built[0]

    @property
    def module(self) -> EvaluationModule:
        """The result's network with its tasks, on the device."""
        return self._built[1]

    @property
    def network(self) -> TaskNetwork:
        """The result's network, on the device."""
        return self.module.network

    def load(self, state: StateDict) -> None:
        """Give the network the weights of a result, and statistics that fit them."""
        self.network.load_state_dict(dict(state))
        if self.stale:
            loader = islice(self.datamodule.train_dataloader(), self.steps)
            recompute_statistics(
                self.network, self.stale, (self._to_device(step.batches) for step in loader)
            )
        self.network.eval()

    def load_model(self, model: int) -> None:
        """Give the network the weights of one of the models; only its own tasks can be asked."""
        self.network.load_state_dict(dict(self.models.read[model]()), strict=False)
        self.network.eval()

    def with_fresh_statistics(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Load a result; return it with the statistics that fit it."""
        self.load(state)
        own = self.network.state_dict()
        names = [f"{layer}.{part}" for layer in self.stale for part in STATISTICS]
        # copies: the network's own change as soon as another model is tried
        return state | {n: own[n].to("cpu", state[n].dtype, copy=True) for n in names}

    def score(self, state: StateDict) -> float:
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

    def scores(self, split: str) -> TaskMetrics:
        """Return {task: {metric: value}} of the weights that are loaded."""
        with torch.inference_mode():
            for step in self.datamodule.evaluation_loader(split):
                self.module.validation_step(step.to(self.device), 0)
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
                yield self._to_device({name: part.batch(rows[start : start + size])})

    def mixed(self, split: str, count: int, generator: np.random.Generator) -> dict[str, Batch]:
        """Return rows of every data set, drawn at random, ``count`` of each at most."""
        parts = self.datamodule.parts[split]
        chosen = {n: generator.permutation(p.size)[:count] for n, p in parts.items() if p.size}
        return self._to_device({n: parts[n].batch(np.sort(rows)) for n, rows in chosen.items()})

    def _to_device(self, batches: Mapping[str, Batch]) -> dict[str, Batch]:
        return {name: batch.to(self.device) for name, batch in batches.items()}


class ScoreEvaluator(MergeEvaluator):
    """Scores merged weights by a function, and has neither a network nor data.

    Args:
        models: what is merged.
        given: the score of a state; None: there is none.
        method: its name, for messages.
    """

    def __init__(
        self, models: Models, given: Callable[[StateDict], float] | None, method: str
    ) -> None:
        super().__init__(models, self._no_data, [], 0, torch.device("cpu"))
        self._given, self._method = given, method

    def score(self, state: StateDict) -> float:
        """Return the given score.

        Raises:
            UsageError: none was given.
        """
        if self._given is None:
            raise UsageError(
                f"{self._method} chooses by a score; give score, a function of a state dict"
            )
        return self._given(state)

    def _no_data(self) -> Any:
        raise UsageError(
            f"{self._method} runs models on data, and state dicts have none; merge runs: po.merge"
        )

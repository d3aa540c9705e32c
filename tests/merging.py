"""Models of one layer in memory, and the data that merging methods look at."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from datamodules.batch import Batch
from lightning_modules.merging.adapters import EncoderAdapters
from lightning_modules.merging.base import MergeMethod, MergeResult
from lightning_modules.merging.evaluator import MergeEvaluator
from lightning_modules.merging.models import Models
from lightning_modules.state_dicts import StateDict
from lightning_modules.tasks.base import Task
from lightning_modules.tasks.classification import Classification
from lightning_modules.tasks.regression import Regression
from lightning_modules.tuning.adapted_layers import AdaptedLayer
from lightning_modules.tuning.lora import LoRA

W = "w.weight"
Data = Mapping[str, tuple[Tensor, Tensor]]  # {task: (inputs (N, in), targets)}


def state_dict_of(
    entries: Mapping[str, Any], kind: torch.dtype = torch.float32
) -> dict[str, Tensor]:
    """Tensors of plain numbers, w being the layer's weight; those of a row are (1, in)."""
    found = {f"{name}.weight": torch.tensor(values, dtype=kind) for name, values in entries.items()}
    return {name: one[None] if one.dim() == 1 else one for name, one in found.items()}


def models(
    states: Sequence[StateDict],
    base: StateDict | None = None,
    tasks: Sequence[Sequence[str]] | None = None,
    buffers: Sequence[str] = (),
) -> Models:
    """Models in memory, called m0, m1, ..."""
    names = {name for one in states for name in one}
    return Models(
        [f"m{place}" for place in range(len(states))],
        [lambda one=one: one for one in states],  # type: ignore[misc]
        names - set(buffers),
        tasks or [[f"t{place}"] for place in range(len(states))],
        None if base is None else lambda: base,
    )


def models_of(given: Sequence[Mapping[str, Any]], base: Mapping[str, Any] | None) -> Models:
    """Models of plain numbers, called m0, m1, ..., those with factors having adapters beside w."""
    states = [state_dict_of(one) for one in given]
    adapters: list[dict[str, EncoderAdapters]] = []
    for place, own in enumerate(states):
        adapters.append({})
        if "down.weight" in own:
            layer = AdaptedLayer(own.pop("down.weight"), own.pop("up.weight"))
            beside = {W: {f"t{place}": layer}}
            adapters[-1]["text"] = EncoderAdapters(
                f"m{place}", LoRA(layer.rank), beside, {W: W}, ""
            )
    found = models(states, None if base is None else state_dict_of(base))
    found.adapters = adapters
    return found


class Layer(nn.Module):
    """One linear map for all tasks, whose data sets are called as they are."""

    def __init__(self, width: int, outputs: int, tasks: Sequence[str]) -> None:
        super().__init__()
        self.w = nn.Linear(width, outputs, bias=False)
        self.routes = {task: (task,) for task in tasks}

    def forward(
        self, batches: Mapping[str, Batch], tasks: Sequence[str] | None = None
    ) -> dict[str, Tensor]:
        """Outputs of the tasks whose data sets there are."""
        found = {}
        for task in self.routes if tasks is None else tasks:
            if task in batches:
                rows = self.w(batches[task].inputs["x"])
                found[task] = rows[:, 0] if rows.shape[1] == 1 else rows
        return found


class LayerEvaluator(MergeEvaluator):
    """A bench whose network is one layer.

    Args:
        models: of a layer ``w``.
        data: rows of each task.
        score: of a state; default: none is asked for.
    """

    def __init__(
        self, models: Models, data: Data, score: Callable[[StateDict], float] | None = None
    ) -> None:
        super().__init__(models, self._nothing, [], 0, torch.device("cpu"))
        self.data = data
        self.scored = score
        shape = next(unit.shape for unit in models.units if W in unit.names)
        self.layer = Layer(shape[-1], shape[0], list(data))
        self.kinds: dict[str, Task] = {task: self._kind(shape[0]) for task in data}

    @staticmethod
    def _nothing() -> Any:
        raise AssertionError("no data are loaded")

    @staticmethod
    def _kind(outputs: int) -> Task:
        if outputs == 1:
            return Regression()
        kind = Classification()
        kind.learn(range(outputs))
        return kind

    @property
    def module(self) -> Any:
        return SimpleNamespace(tasks=self.kinds, network=self.layer)

    @property
    def network(self) -> Any:
        return self.layer

    def load(self, state: StateDict) -> None:
        self.layer.w.weight.data = state[W].clone()

    def load_model(self, model: int) -> None:
        self.load(self.models.read[model]())

    def score(self, state: StateDict) -> float:
        assert self.scored is not None
        return self.scored(state)

    def draw(
        self, split: str, tasks: Sequence[str], count: int, size: int, seed: int
    ) -> Iterator[dict[str, Batch]]:
        for task in tasks:
            inputs, targets = self.data[task]
            for first in range(0, min(count, len(inputs)), size):
                rows = slice(first, first + size)
                yield {task: batch(task, inputs[rows], targets[rows])}

    def mixed(self, split: str, count: int, generator: np.random.Generator) -> dict[str, Batch]:
        return {task: batch(task, *rows) for task, rows in self.data.items()}


def batch(task: str, inputs: Tensor, targets: Tensor) -> Batch:
    """Labelled rows of a task's own data set."""
    present = torch.ones(len(inputs), dtype=torch.bool)
    return Batch({"x": inputs}, {task: targets}, {task: present}, torch.arange(len(inputs)))


def nearness(target: float) -> Callable[[StateDict], float]:
    """A score that is best where w is the target."""
    return lambda found: -(found[W] - target).abs().sum().item()


def result(
    method: MergeMethod, merged: Models, data: Data | None = None, target: float = 2.0
) -> dict[str, Tensor]:
    """What a method makes of models of one layer."""
    tasks = [task for own in merged.tasks for task in own]
    shape = next((unit.shape for unit in merged.units if W in unit.names), (1, 1))
    one = (torch.ones(1, shape[-1]), torch.zeros(1, dtype=torch.int64))
    evaluator = LayerEvaluator(merged, data or dict.fromkeys(tasks, one), nearness(target))
    return with_adapters(method.merge(merged, evaluator))


def with_adapters(found: MergeResult) -> dict[str, Tensor]:
    """A result of one layer, with adapters in w, or in the names of tasks with their own."""
    state = dict(found.state)
    for task, adapter in found.adapters.get("text", {}).items():
        weight = adapter.layer("w", found.state[W]).weight(found.state[W])
        if task != "all":
            state.pop(W, None)
        state[W if task == "all" else f"{task}.weight"] = weight
    return state

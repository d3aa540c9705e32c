"""Sources without files; students and teachers of a few hundred weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from datamodules.batch import MixedBatch
from datamodules.cache import Cache
from datamodules.dataset import Dataset
from datamodules.mixed_datamodule import MixedDataModule
from datamodules.modalities.image import ImageModality
from lightning_modules.hooks import AddedLosses, TrainingStep
from lightning_modules.module import MultiTaskModule
from lightning_modules.network import ForwardTrace
from lightning_modules.predictor import Predictor
from lightning_modules.source_models import SourceModel
from lightning_modules.tasks.base import Task
from lightning_modules.transfer.distillation import Distillation
from tests.tiny import THIRDS, TinySource, datamodule, multitask, pixels, words


class SingleSourceOpener:
    """Opens one source, whatever it is called."""

    def __init__(self, source: SourceModel) -> None:
        self.source, self.opened = source, 0

    def open(self, what: str) -> SourceModel:
        self.opened += 1
        return self.source


def source_of(module: MultiTaskModule, data: MixedDataModule) -> SourceModel:
    weights = {name: value.clone() for name, value in module.network.state_dict().items()}
    inputs = {name: spec.inputs for name, spec in data.datasets.items()}
    network, tasks = deepcopy(module.network), deepcopy(module.tasks)

    def load() -> Predictor:
        return Predictor(network, tasks, data.modalities, inputs)

    spec = {"config": {}, "learnt": data.learnt_state()}
    return SourceModel("runs/a", "", weights, spec, load)


CPU = torch.device("cpu")


class NamedSourceOpener:
    """Opens sources by their names."""

    def __init__(self, **sources: SourceModel) -> None:
        self.sources = sources

    def open(self, what: str) -> SourceModel:
        return self.sources[what]


def deterministic_data(
    datasets: Mapping[str, Dataset], tasks: Mapping[str, Task], folder: Path, **options: Any
) -> MixedDataModule:
    """A data module, set up, whose rows are the same in every epoch; its cache is in a folder."""
    data = datamodule(datasets, tasks, dropout=0.0, **options)
    if "image" in data.modalities:
        data.modalities["image"] = ImageModality(
            [8, 8], channels=1, shift=0.0, rotate=0.0, scale=0.0
        )
    data.policy.cache = Cache(folder / "cache")
    data.setup()
    return data


def texts_and_images(
    count: int = 40, inputs: Mapping[str, str] | None = None, **columns: Any
) -> Dataset:
    """A data set whose rows have a text and an image, of which every fifth lacks the image."""
    some = [None if row % 5 == 4 else image for row, image in enumerate(pixels(count))]
    source = TinySource(**{"text": words(count), "image": some, **columns})
    return Dataset(source, inputs=inputs or {"text": "text", "image": "image"}, split=THIRDS)


def teacher_source(data: MixedDataModule, name: str = "teacher", seed: int = 1) -> SourceModel:
    """A source whose answers differ from those of a new module."""
    module = multitask(data)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in (*module.network.trunk.parameters(), *module.network.heads.parameters()):
            weight.add_(torch.randn(weight.shape, generator=generator))
    return replace(source_of(module, data), name=name, digest=f"{name} {seed}")


def set_up(
    method: Distillation, module: MultiTaskModule, data: MixedDataModule, **sources: SourceModel
) -> list[str]:
    """Set a method up and prepare it; return what it says."""
    said = method.setup(module, data, NamedSourceOpener(**sources))
    method.prepare(CPU, said.append)
    module.transfer = method
    return said


def first_batch(data: MixedDataModule) -> MixedBatch:
    batch: MixedBatch = next(iter(data.train_dataloader()))
    return batch


def step_of(module: MultiTaskModule, batch: MixedBatch, **options: Any) -> TrainingStep:
    trace = ForwardTrace()
    outputs = module.network(batch.batches, trace=trace)
    return TrainingStep(batch, outputs, trace, **options)


def losses(method: Distillation, module: MultiTaskModule, batch: MixedBatch) -> AddedLosses:
    return method.losses(step_of(module, batch))


def source_outputs(source: SourceModel, batch: MixedBatch, dataset: str, task: str) -> Tensor:
    """What a source's network says of a data set's rows."""
    network: nn.Module = source.predictor().network
    with torch.no_grad():
        found: Tensor = network({dataset: batch.batches[dataset]}, [task])[task]
    return found


def required_tasks_of(method: Distillation, batch: MixedBatch) -> Sequence[str]:
    return sorted(method.required_tasks(batch))

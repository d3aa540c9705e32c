"""Data sets of a few rows, and everything built on them, in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.loggers import Logger
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from datamodules.cache import Cache
from datamodules.data_errors import DataErrorPolicy
from datamodules.dataset import Dataset
from datamodules.features import Features
from datamodules.loaders import EpochPlan
from datamodules.mixed_datamodule import MixedDataModule
from datamodules.modalities.image import ImageModality
from datamodules.modalities.text import TextModality
from datamodules.samplers.base import Sampler, Shares
from datamodules.samplers.uniform import Uniform
from datamodules.sources.base import Source
from datamodules.table import Column, SourceTable, columns_digest
from lightning_modules.balancers.base import Balancer
from lightning_modules.balancers.equal import Equal
from lightning_modules.checkpoints import AtomicCheckpointIO
from lightning_modules.encoders.base import Encoder
from lightning_modules.fusions.concat import Concat
from lightning_modules.module import MultiTaskModule
from lightning_modules.network import MultiTaskNetwork, combination
from lightning_modules.optimization import Optimization
from lightning_modules.schedules.constant import Constant
from lightning_modules.tasks.base import Task, as_task
from lightning_modules.tasks.classification import Classification
from lightning_modules.transfer.none import NoTransfer
from lightning_modules.trunks.shared import SharedTrunk

DIM = 8
SGD = partial(torch.optim.SGD, lr=0.1)
THIRDS = {"train": 0.5, "valid": 0.25, "test": 0.25}


class TinySource(Source):
    """The given columns."""

    location = "memory"

    def __init__(self, **columns: Column) -> None:
        self.columns = columns

    def load(self, cache: Cache) -> SourceTable:
        return SourceTable(self.columns, columns_digest(self.columns))


def words(count: int, first: int = 0) -> list[str]:
    """Distinct texts of one to five tokens and more."""
    return [" ".join(["word"] * (row % 5) + [f"n{row}"]) for row in range(first, first + count)]


def pixels(count: int, side: int = 8) -> np.ndarray:
    """Distinct grey images: uint8 (count, side, side)."""
    return np.random.default_rng(0).integers(0, 256, (count, side, side), dtype=np.uint8)


def labels(count: int, classes: Sequence[Any] = ("no", "yes")) -> list[Any]:
    """One class after the other."""
    return [classes[row % len(classes)] for row in range(count)]


def texts(count: int = 40, **columns: Column) -> Dataset:
    """A data set of texts with a column ``label``, and whatever else is given."""
    source = TinySource(**{"text": words(count), "label": labels(count), **columns})
    return Dataset(source, inputs={"text": "text"}, split=THIRDS)


def images(count: int = 24, **columns: Column) -> Dataset:
    """A data set of images with a column ``label``, and whatever else is given."""
    source = TinySource(**{"image": pixels(count), "label": labels(count, "abc"), **columns})
    return Dataset(source, inputs={"image": "image"}, split=THIRDS)


def task(*datasets: str, target: str = "label", **options: Any) -> Classification:
    """A classification on the given data sets."""
    return Classification(datasets, target, **options)


def datamodule(
    datasets: Mapping[str, Dataset] | None = None,
    tasks: Mapping[str, Task] | None = None,
    sampler: Sampler | None = None,
    workers: int = 0,
    seed: int = 0,
    learnt: Mapping[str, Any] | None = None,
    dropout: float = 0.2,
) -> MixedDataModule:
    """A data module, not set up; default: 40 texts with a task, 24 images with another."""
    datasets = datasets or {"notes": texts(), "shapes": images()}
    tasks = tasks or {name: task(name) for name in datasets}
    modalities = {
        "text": TextModality(vocab_size=300, max_length=8, dropout=dropout),
        "image": ImageModality([8, 8], channels=1, shift=1.0, rotate=0.0, scale=0.0),
    }
    used = {modality for spec in datasets.values() for modality in spec.inputs}
    return MixedDataModule(
        datasets,
        tasks,
        sampler or Uniform(batch_size=8),
        {name: modality for name, modality in modalities.items() if name in used},
        seed,
        workers=workers,
        evaluation_batch_size=16,
        policy=DataErrorPolicy(every_split=True),
        learnt=learnt,
    )


def ready(*args: Any, **options: Any) -> MixedDataModule:
    """A data module that is set up."""
    module = datamodule(*args, **options)
    module.setup()
    return module


class Given(Sampler):
    """The same counts in every epoch."""

    def __init__(self, counts: Mapping[str, int], steps: int) -> None:
        super().__init__(max(1, sum(counts.values())), steps)
        self.given = dict(counts)

    def shares(self, sizes: Mapping[str, int], epoch: int) -> Shares:
        return {name: float(count) for name, count in self.given.items()}

    def counts(self, sizes: Mapping[str, int], epoch: int = 0) -> dict[str, int]:
        return self.given


def plan(counts: Mapping[str, int], steps: int = 10) -> EpochPlan:
    """A plan with the same counts in every epoch."""
    return EpochPlan(Given(counts, steps), dict.fromkeys(counts, 1))


class MeanEncoder(Encoder):
    """Mean of embeddings; counts its calls."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.dim = DIM
        self.embedding = nn.Embedding(vocab_size, DIM, padding_idx=0)
        self.calls = 0

    def forward(self, inputs: Tensor) -> Features:
        self.calls += 1
        rows, mask = self.embedding(inputs), inputs != 0
        return Features(rows.sum(dim=1) / mask.sum(dim=1, keepdim=True), rows, mask=mask)


class Flat(Encoder):
    """A linear map of the pixels and a norm, a grid of their means; counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.dim = DIM
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, DIM), nn.LayerNorm(DIM))
        self.calls = 0

    def forward(self, inputs: Tensor) -> Features:
        self.calls += 1
        means = functional.avg_pool2d(inputs[:, :1], 4)
        return Features(self.layers(inputs), grid=means.expand(-1, DIM, -1, -1))


def network(data: MixedDataModule, dropout: float = 0.0) -> MultiTaskNetwork:
    """A network of some hundred weights for data that are set up."""
    torch.manual_seed(0)
    encoders: dict[str, Encoder] = {}
    if "text" in data.modalities:
        encoders["text"] = MeanEncoder(**data.modalities["text"].encoder_arguments())
    if "image" in data.modalities:
        encoders["image"] = Flat()
    heads = {name: as_task(task).head(DIM) for name, task in data.tasks.items()}
    routes = {name: task.datasets for name, task in data.tasks.items()}
    views = {name: as_task(task).view for name, task in data.tasks.items()}
    several = {tuple(sorted(s.inputs)) for s in data.datasets.values() if len(s.inputs) > 1}
    fusions = {combination(names): Concat(names, DIM) for names in several}
    trunk = SharedTrunk(list(heads), DIM, dropout=dropout)
    return MultiTaskNetwork(encoders, trunk, heads, routes, fusions, views)


def multitask(
    data: MixedDataModule,
    balancer: Callable[[Sequence[str]], Balancer] = Equal,
    optimizer: Callable[..., Optimizer] = SGD,
    dropout: float = 0.0,
) -> MultiTaskModule:
    """A module for data that are set up."""
    tasks = {name: as_task(task) for name, task in data.tasks.items()}
    plan = Optimization(
        optimizer,
        Constant(),
        lr=0.1,
        lr_scale={},
        decay="weight_decay" in signature(getattr(optimizer, "func", optimizer)).parameters,
    )
    spec = {"format": 1, "config": {}, "learnt": data.learnt_state()}
    return MultiTaskModule(
        tasks=tasks,
        network=network(data, dropout),
        balancer=balancer(list(tasks)),
        transfer=NoTransfer(),
        optimizer=plan,
        spec=spec,
    )


class Recorder(Logger):
    """Notes what it is given: (step, metrics)."""

    name = version = "recorder"

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[int | None, dict[str, float]]] = []

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.lines.append((step, dict(metrics)))

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        pass

    @property
    def latest(self) -> dict[str, float]:
        return {name: value for _, metrics in self.lines for name, value in metrics.items()}

    def steps(self, name: str) -> list[int | None]:
        return [step for step, metrics in self.lines if name in metrics]


def trainer(folder: Path, callbacks: Sequence[Callback] = (), **options: Any) -> Trainer:
    """A trainer that writes checkpoints as a run does, and nothing else."""
    return Trainer(
        accelerator="cpu",
        default_root_dir=folder,
        logger=options.pop("logger", False),
        callbacks=list(callbacks),
        plugins=[AtomicCheckpointIO()],
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=any(isinstance(one, Checkpoint) for one in callbacks),
        use_distributed_sampler=False,
        **{"num_sanity_val_steps": 0, **options},
    )

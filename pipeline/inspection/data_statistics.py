"""What a data set and its tasks consist of, in numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from datamodules.label_maps import UNLABELLED_PIXEL
from datamodules.labelled_task import LabelledTask
from datamodules.loading import LoadedDataset
from datamodules.modalities.base import InputStore, Modality
from datamodules.modalities.image import displayed_size
from datamodules.modalities.text import TextStore
from datamodules.table import Column, take
from lightning_modules.tasks.base import Task, as_task, label_text, parse_number
from lightning_modules.tasks.generation import Generation
from lightning_modules.tasks.multilabel import Multilabel
from lightning_modules.tasks.regression import Regression
from lightning_modules.tasks.segmentation import Segmentation
from lightning_modules.tasks.tagging import Tagging, tags_of
from pipeline.text_format import NOTHING, cell

SPLITS = ("train", "valid", "test")
MAPS, PIXELS = 1000, 100  # maps of a split, and pixels of a map, that measurements are taken of


def labelled_maps(loaded: LoadedDataset, task: str) -> dict[str, int]:
    store = loaded.maps[task]
    return {split: int(store.has[rows].sum()) for split, rows in loaded.rows.items()}


def class_pixels(task: Segmentation, loaded: LoadedDataset, name: str) -> dict[str, Counter[str]]:
    found: dict[str, Counter[str]] = {}
    for split in loaded.rows:
        counts = np.zeros(1, np.int64)
        for values in loaded.label(name, split):
            if values is not None:
                own = np.bincount(values.ravel(), minlength=len(counts))
                own[: len(counts)] += counts
                counts = own
        counts[UNLABELLED_PIXEL] = 0
        numbers = np.flatnonzero(counts).tolist()
        found[split] = Counter({task.name(n - 1): int(counts[n]) for n in numbers})
    return found


def distances(loaded: LoadedDataset, name: str) -> list[float]:
    """Return measured distances of the training split, of evenly spaced maps and pixels."""
    rows = loaded.rows["train"]
    column = loaded.maps[name].column(rows[:: max(1, -(-len(rows) // MAPS))])
    found: list[float] = []
    for values in column:
        if values is not None:
            own = values[values != UNLABELLED_PIXEL]
            found += own[:: max(1, -(-len(own) // PIXELS))].tolist()
    return found


SAMPLED = 2000  # rows that are looked at where all would take long


@dataclass
class InputStatistics:
    """has: rows with the modality; figures: {what: value for people}."""

    has: int
    figures: dict[str, str] = field(default_factory=dict)


@dataclass
class TaskStatistics:
    """labels: {split: {label: rows}}; labelled: {split: rows with one}; numbers: of train.

    unit: what ``labels`` counts; figures: {what: value for people}, of the training rows.
    """

    kind: str
    labels: dict[str, Counter[str]]
    labelled: dict[str, int]
    numbers: list[float] = field(default_factory=list)
    unit: str = "rows"
    figures: dict[str, str] = field(default_factory=dict)

    @property
    def classes(self) -> list[str]:
        return [label for label, _ in self.labels["train"].most_common()]

    @property
    def imbalance(self) -> float | None:
        """Rows of the most frequent class for one of the rarest; None without classes."""
        counts = list(self.labels["train"].values())
        return max(counts) / min(counts) if counts else None

    def cells(self, rows: Mapping[str, int]) -> tuple[str, str, str]:
        total, imbalance = sum(rows.values()), self.imbalance
        share = sum(self.labelled.values()) / total if total else None
        uneven = NOTHING if imbalance is None else f"{imbalance:.1f} : 1"
        return cell(share, ".1%"), str(len(self.classes) or NOTHING), uneven


@dataclass
class DatasetStatistics:
    """rows: {split: number}; inputs: by modality; tasks: by name."""

    location: str
    rows: dict[str, int]
    inputs: dict[str, InputStatistics]
    tasks: dict[str, TaskStatistics]

    def figures(self) -> Iterator[tuple[str, str]]:
        measured = {name: own.figures for name, own in self.inputs.items()}
        for name, figures in [*measured.items(), *((n, t.figures) for n, t in self.tasks.items())]:
            yield from ((f"{name} {figure}", value) for figure, value in figures.items())


def dataset_statistics(
    location: str,
    loaded: LoadedDataset,
    stores: Mapping[str, InputStore],
    tasks: Mapping[str, LabelledTask],
    modalities: Mapping[str, Modality],
    prompts: Mapping[str, InputStore],
) -> DatasetStatistics:
    rows = {split: len(part) for split, part in loaded.rows.items()}
    inputs = {
        name: input_statistics(name, modalities[name], loaded.inputs[name], store)
        for name, store in stores.items()
    }
    facts = {name: task_statistics(as_task(spec), name, loaded) for name, spec in tasks.items()}
    for name, store in prompts.items():
        if name in facts:
            facts[name].figures |= writing_figures(as_task(tasks[name]), name, loaded, store)
    return DatasetStatistics(location, rows, inputs, facts)


def input_statistics(
    modality: str, kind: Modality, column: Column, store: InputStore
) -> InputStatistics:
    facts = InputStatistics(int(store.has.sum()))
    lengths = store.lengths()
    if lengths is not None and facts.has:
        facts.figures[kind.unit] = spread(lengths[store.has] * kind.scale)
    sampled = list(take(column, sample(np.flatnonzero(store.has))))
    if modality == "text":
        facts.figures["words"] = spread(np.array([len(str(cell).split()) for cell in sampled]))
    if modality == "image":
        sizes = [size for cell in sampled if (size := displayed_size(cell)) is not None]
        if sizes:
            heights, widths = zip(*sizes, strict=True)
            facts.figures["width"] = spread(np.array(widths))
            facts.figures["height"] = spread(np.array(heights))
    return facts


def task_statistics(task: Task, name: str, loaded: LoadedDataset) -> TaskStatistics:
    if task.maps is not None:
        return map_statistics(task, name, loaded)
    labels: dict[str, Counter[str]] = {}
    labelled: dict[str, int] = {}
    for split in loaded.rows:
        cells = [labels_of(task, cell) for cell in loaded.target(name, split)]
        labels[split] = Counter(label for cell in cells for label in cell or ())
        labelled[split] = sum(cell is not None for cell in cells)
    facts = TaskStatistics(type(task).__name__.lower(), labels, labelled)
    if isinstance(task, Regression):
        found = [parse_number(cell) for cell in loaded.target(name, "train")]
        facts.numbers = [value for value in found if value is not None]
    return facts


def writing_figures(
    task: Task, name: str, loaded: LoadedDataset, prompts: InputStore
) -> dict[str, str]:
    """Return how long prompts and right answers are, in tokens, before and after they are cut."""
    assert isinstance(task, Generation)
    figures = {}
    lengths = prompts.lengths()
    if lengths is not None and isinstance(prompts, TextStore) and prompts.has.any():
        figures["prompt tokens"] = spread(lengths[prompts.has] + prompts.cut[prompts.has])
        if cut := int((prompts.cut > 0).sum()):
            figures["prompts cut"] = f"{cut:,}, {int(prompts.cut.sum()):,} tokens"
    cells = list(loaded.target(name, "train"))
    texts = [text for cell in cells[:: sampling_step(len(cells))] if (text := label_text(cell))]
    answers = np.array(task.answer_lengths(texts))
    if len(answers):
        figures["answer tokens"] = spread(answers)
        if cut := int((answers > task.most_tokens).sum()):
            share = cut / len(answers)
            figures["answers cut"] = f"{share:.1%}, at {task.most_tokens} tokens"
    return figures


def map_statistics(task: Task, name: str, loaded: LoadedDataset) -> TaskStatistics:
    facts = TaskStatistics(
        type(task).__name__.lower(),
        {split: Counter() for split in loaded.rows},
        labelled_maps(loaded, name),
        unit="pixels",
    )
    if isinstance(task, Segmentation):
        facts.labels = class_pixels(task, loaded, name)
    else:
        facts.numbers = distances(loaded, name)
        facts.figures["distance"] = spread(np.array(facts.numbers))
    return facts


def labels_of(task: Task, cell: Any) -> list[str] | None:
    """Return a cell's labels, none for a number or a pair; None if it isn't labelled."""
    if isinstance(task, Multilabel):
        return task.labels(cell)
    if isinstance(task, Tagging):
        return tags_of(cell)
    text = label_text(cell)
    if text is None:
        return None
    words = task.prompt is not None and not task.classes
    return [] if isinstance(task, Regression) or task.modalities or words else [text]


def sample(rows: np.ndarray) -> np.ndarray:
    """Return at most ``SAMPLED`` rows, evenly spaced."""
    return rows[:: sampling_step(len(rows))]


def sampling_step(count: int) -> int:
    """Return every how many-th of so many rows is looked at."""
    return max(1, -(-count // SAMPLED))


def spread(values: np.ndarray) -> str:
    """Say where values lie: smallest, 5 %, middle, 95 %, largest."""
    if not len(values):
        return "-"
    low, early, middle, late, high = np.quantile(values, [0, 0.05, 0.5, 0.95, 1])
    return f"{low:.4g} / {early:.4g} / {middle:.4g} / {late:.4g} / {high:.4g}"

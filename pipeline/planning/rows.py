"""What the batches of a run look like: shapes, without reading more than a row of each."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from datamodules.batch import Batch
from datamodules.dataset import Part
from datamodules.mixed import MixedDataModule
from datamodules.modalities.base import Store
from datamodules.plan import Plan
from datamodules.steps import Share, TrainingSteps

STEPS = 100  # of the first epoch, whose lengths are looked at
Counts = Mapping[str, int]  # {data set: rows}


@dataclass(frozen=True)
class Template:
    """One row of each data set, to be repeated.

    batches: {data set: a batch of one row, of the length to which a batch is padded}.
    """

    batches: Mapping[str, Batch]

    def sizes(self) -> dict[str, dict[str, tuple[int, ...]]]:
        """Return {data set: {modality: shape of its row}}."""
        return {
            name: {modality: tuple(rows.shape) for modality, rows in one.inputs.items()}
            for name, one in self.batches.items()
        }

    def repeated(self, counts: Counts) -> dict[str, Batch]:
        """Return batches of so many rows, without their numbers; inside ``pretending``."""
        return {name: repeated(self.batches[name], rows) for name, rows in counts.items()}


def repeated(one: Batch, rows: int) -> Batch:
    """Return a batch of ``rows`` rows, each of which has all modalities."""

    def grown(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {
            name: torch.empty((rows, *tensor.shape[1:]), dtype=tensor.dtype)
            for name, tensor in tensors.items()
        }

    index = torch.empty((rows,), dtype=torch.int64)
    words = grown(one.words)
    return Batch(grown(one.inputs), grown(one.targets), grown(one.present), index, words=words)


def templates(data: MixedDataModule) -> tuple[Template, Template]:
    """Return rows of the length to which a batch is padded: usually, and at most.

    Args:
        data: that is set up.
    """
    plan = Plan(data.sampler, data.sizes)
    steps = TrainingSteps(data.parts["train"], plan, data.seed, Share())
    usual, longest = {}, {}
    for name, part in steps.parts.items():
        rows = [
            steps.streams[name].rows(*plan.stretch(name, step))[0]
            for step in range(min(STEPS, data.epoch_steps))
        ]
        by_store = {m: widest(store, part, rows) for m, store in part.stores.items()}
        usual[name] = row_of(part, {m: found[0] for m, found in by_store.items()})
        longest[name] = row_of(part, {m: found[1] for m, found in by_store.items()})
    return Template(usual), Template(longest)


def widest(store: Store, part: Part, steps: list[np.ndarray]) -> tuple[int, int]:
    """Return the store's rows to which a step is padded: that of the middle step, of the widest."""
    lengths = store.lengths()
    if lengths is None:
        first = int(part.rows[store.has[part.rows]][0]) if store.has[part.rows].any() else 0
        return first, first
    found = []
    for rows in steps:
        own = part.rows[rows]
        found.append(int(own[np.argmax(lengths[own])]))
    found.sort(key=lambda row: int(lengths[row]))
    return found[len(found) // 2], found[-1]


def row_of(part: Part, chosen: Mapping[str, int]) -> Batch:
    """Return a batch of one row, whose modalities may come from several."""
    batch = Batch({}, {}, {}, torch.zeros(1, dtype=torch.int64))
    for modality, row in chosen.items():
        rows, store = np.array([row]), part.stores[modality]
        batch.inputs[modality] = store.rows(rows)
        words = store.words(rows)
        if words is not None:
            batch.words[modality] = words
    batch.targets = {task: values[:1] for task, values in part.targets.items()}
    for task, found in part.maps.items():
        batch.targets[task] = found.targets(np.array([chosen[found.modality]]))
    batch.present = {task: mask[:1] for task, mask in part.present.items()}
    return batch


def on_one_device(counts: Counts, devices: int) -> dict[str, int]:
    """Return the most rows of each data set that one of the devices has in a step."""
    return {name: math.ceil(rows / devices) for name, rows in counts.items()}

"""Steps by number: a pure function from (seed, step, rank) to a batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch.utils.data import Dataset

from datamodules.batch import Batch, MixedBatch
from datamodules.dataset import Part
from datamodules.plan import Plan


@dataclass
class Share:
    """Which of a step's rows this process takes: those at rank, rank + world, ..."""

    rank: int = 0
    world: int = 1

    def of(self, rows: np.ndarray) -> np.ndarray:
        """Return this rank's rows."""
        return rows[self.rank :: self.world]


class TrainingSteps(Dataset[MixedBatch]):
    """Maps the number of a step, counted over all epochs, to its rows.

    Args:
        parts: {data set: training split}.
        plan: how many rows of each a step has over all ranks.
        seed: of order and augmentation.
        share: this process' part of each step.
    """

    def __init__(self, parts: Mapping[str, Part], plan: Plan, seed: int, share: Share) -> None:
        self.parts = dict(parts)
        self.plan = plan
        self.seed = seed
        self.share = share
        bucket = plan.sampler.bucket
        self.streams = {
            name: part.stream(seed, bucket, plan.counts(0)[name])
            for name, part in self.parts.items()
        }

    def __getitem__(self, step: int) -> MixedBatch:
        """Return step ``step``, >= 0."""
        batches: dict[str, Batch] = {}
        labelled: Counter[str] = Counter()
        sizes: dict[str, int] = {}
        for name, part in self.parts.items():
            rows, passes = self.streams[name].rows(*self.plan.stretch(name, step))
            labelled.update(part.labelled(rows))
            sizes[name] = len(rows)
            batches[name] = part.augmented(self.share.of(rows), self.seed, self.share.of(passes))
        return MixedBatch(batches, dict(labelled), sizes)


class EvaluationSteps(Dataset[MixedBatch]):
    """Every row of a split once, one data set after another, the longest first.

    Rows of like length come together, which leaves little padding.

    Args:
        parts: {data set: split}.
        batch_size: rows a step over all ranks, >= 1.
        share: this process' part of each step; the last step may leave it none.
    """

    def __init__(self, parts: Mapping[str, Part], batch_size: int, share: Share) -> None:
        self.parts = dict(parts)
        self.share = share
        self.orders = {name: longest_first(part) for name, part in parts.items()}
        self.slices = [
            (name, start, min(start + batch_size, part.size))
            for name, part in parts.items()
            for start in range(0, part.size, batch_size)
        ]

    def __len__(self) -> int:
        return len(self.slices)

    def __getitem__(self, step: int) -> MixedBatch:
        """Return step ``step``, in [0, len)."""
        name, start, stop = self.slices[step]
        rows = self.orders[name][start:stop]
        part = self.parts[name]
        batches = {name: part.batch(self.share.of(rows))}
        return MixedBatch(batches, part.labelled(rows), {name: len(rows)})


def longest_first(part: Part) -> np.ndarray:
    """Return a split's rows (N,), by falling length where rows have one."""
    lengths = part.lengths()
    rows = np.arange(part.size)
    return rows if lengths is None else rows[np.argsort(-lengths, kind="stable")]

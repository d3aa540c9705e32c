"""Steps by number: a pure function from (seed, step, rank) to a batch, and loaders over them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Generator
from torch.utils.data import DataLoader, Dataset

from datamodules.batch import Batch, MixedBatch
from datamodules.samplers.base import Sampler
from datamodules.split_dataset import SplitDataset


class EpochPlan:
    """Rows of each data set in the steps of every epoch.

    An epoch's counts are asked for once, when it begins, and kept: what a sampler learns later
    changes later epochs only, so the rows of a step are a pure function of its number and of
    ``history``.

    Args:
        sampler: says the counts.
        sizes: {data set: training rows}.
        history: counts of the epochs that have begun.
    """

    def __init__(
        self,
        sampler: Sampler,
        sizes: Mapping[str, int],
        history: Sequence[Mapping[str, int]] = (),
    ) -> None:
        self.sampler = sampler
        self.sizes = dict(sizes)
        self.epoch_steps = sampler.epoch_steps(sizes)
        self.history = [dict(counts) for counts in history]

    def begin(self, step: int) -> None:
        """Settle the counts of all epochs up to that of a step."""
        for epoch in range(len(self.history), step // self.epoch_steps + 1):
            self.history.append(self.counts(epoch))

    def counts(self, epoch: int) -> dict[str, int]:
        """Return {data set: rows a step} in an epoch."""
        if epoch < len(self.history):
            return self.history[epoch]
        return self.sampler.counts(self.sizes, epoch)

    def stretch(self, name: str, step: int) -> tuple[int, int]:
        """Return the place in a data set's stream where a step's rows begin, and their number."""
        epoch, inner = divmod(step, self.epoch_steps)
        count = self.counts(epoch)[name]
        return self.before(name, epoch) + inner * count, count

    def before(self, name: str, epoch: int) -> int:
        """Return how many rows of a data set all steps before an epoch have."""
        return self.epoch_steps * sum(self.counts(e)[name] for e in range(epoch))


@dataclass
class RankSlice:
    """Which of a step's rows this process takes: those at rank, rank + world, ..."""

    rank: int = 0
    world: int = 1

    def of(self, rows: np.ndarray) -> np.ndarray:
        return rows[self.rank :: self.world]


class TrainingSteps(Dataset[MixedBatch]):
    """Maps the number of a step, counted over all epochs, to its rows.

    Args:
        parts: {data set: training split}.
        plan: how many rows of each a step has over all ranks.
        seed: of order and augmentation.
        share: this process' part of each step.
    """

    def __init__(
        self, parts: Mapping[str, SplitDataset], plan: EpochPlan, seed: int, share: RankSlice
    ) -> None:
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

    def __init__(
        self, parts: Mapping[str, SplitDataset], batch_size: int, share: RankSlice
    ) -> None:
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


class RepeatedSteps(Dataset[MixedBatch]):
    """The first steps again and again, with the same augmentation.

    Args:
        steps: maps a step's number to its batch.
        period: how many of them, >= 1.
    """

    def __init__(self, steps: Dataset[MixedBatch], period: int) -> None:
        self.steps = steps
        self.period = period

    def __getitem__(self, step: int) -> MixedBatch:
        return self.steps[step % self.period]


def longest_first(part: SplitDataset) -> np.ndarray:
    """Return a split's rows (N,), by falling length where rows have one."""
    lengths = part.lengths()
    rows = np.arange(part.size)
    return rows if lengths is None else rows[np.argsort(-lengths, kind="stable")]


class StepLoader:
    """Yields the batches of steps ``position``, ``position + 1``, ... one epoch at a time.

    The position counts batches that were handed out, not those that workers prepared ahead, so a
    state taken after a step continues with exactly the next step.

    Args:
        steps: maps a step's number to its batch; a pure function.
        plan: is told which epoch begins, and says how many batches one iteration hands out.
        position: first step.
        distinct: the number of steps after which the same ones come again; None: never.
        options: of torch's DataLoader (num_workers, pin_memory).
    """

    def __init__(
        self,
        steps: Dataset[MixedBatch],
        plan: EpochPlan,
        position: int = 0,
        distinct: int | None = None,
        **options: Any,
    ) -> None:
        self.steps = steps if distinct is None else RepeatedSteps(steps, distinct)
        self.plan = plan
        self.position = position
        self.distinct = distinct
        self.options = options

    def __len__(self) -> int:
        return self.plan.epoch_steps

    def __iter__(self) -> Iterator[MixedBatch]:
        self.plan.begin(self.position)
        numbers = range(self.position, self.position + self.plan.epoch_steps)
        for batch in _load(self.steps, numbers, self.options):
            self.position += 1
            yield batch

    def passes(self) -> dict[str, float]:
        """Return how often each data set was gone through; repeated steps don't count."""
        position = self.position if self.distinct is None else min(self.position, self.distinct)
        sizes = self.plan.sizes.items()
        return {name: self.plan.stretch(name, position)[0] / size for name, size in sizes}

    def state_dict(self) -> dict[str, int]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue at the given step."""
        self.position = state["position"]


class EvaluationLoader:
    """Yields the batches of all steps in order.

    Args:
        steps: has a length and maps a step's number to its batch.
        options: of torch's DataLoader (num_workers, pin_memory).
    """

    def __init__(self, steps: Dataset[MixedBatch], length: int, **options: Any) -> None:
        self.steps = steps
        self.length = length
        self.options = options

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[MixedBatch]:
        yield from _load(self.steps, range(self.length), self.options)


def _load(
    steps: Dataset[MixedBatch], numbers: Sequence[int], options: dict[str, Any]
) -> DataLoader[MixedBatch]:
    """Load the given steps in order, with a generator of its own: torch's is left untouched."""
    generator = Generator().manual_seed(0)
    return DataLoader(steps, batch_size=None, sampler=numbers, generator=generator, **options)

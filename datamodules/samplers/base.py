"""The sampler contract: which rows the k-th step has."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from pipeline.errors import UsageError

Shares = Mapping[str, float]


class Sampler(ABC):
    """Says how many rows of each data set a step has.

    Args:
        batch_size: rows a step over all data sets and devices, >= number of data sets.
        steps_per_epoch: steps of one epoch, >= 1; None: all rows / batch_size, rounded up.
    """

    def __init__(self, batch_size: int, steps_per_epoch: int | None = None) -> None:
        if batch_size < 1:
            raise UsageError(f"sampler.batch_size must be >= 1, got {batch_size}")
        if steps_per_epoch is not None and steps_per_epoch < 1:
            raise UsageError(f"sampler.steps_per_epoch must be >= 1, got {steps_per_epoch}")
        self.batch_size = batch_size
        self.steps_per_epoch = steps_per_epoch

    @abstractmethod
    def shares(self, sizes: Mapping[str, int]) -> Shares:
        """Relative shares of the data sets, given {data set: training rows}; need not sum to 1."""

    def counts(self, sizes: Mapping[str, int]) -> dict[str, int]:
        """Rows of each data set in every step: the shares, rounded, at least one row each."""
        return apportion(self.shares(sizes), self.batch_size)

    def epoch_steps(self, sizes: Mapping[str, int]) -> int:
        """Steps of one epoch, >= 1."""
        return self.steps_per_epoch or math.ceil(sum(sizes.values()) / self.batch_size)


def apportion(shares: Shares, total: int) -> dict[str, int]:
    """Split ``total`` rows by ``shares``: largest remainders, at least one row each.

    Raises:
        UsageError: there are fewer rows than shares.
    """
    if total < len(shares):
        raise UsageError(
            f"sampler.batch_size must be >= the number of data sets ({len(shares)}) so that each "
            f"step has rows of all, got {total}; raise sampler.batch_size"
        )
    spare = total - len(shares)
    scale = sum(shares.values())
    exact = {name: spare * share / scale for name, share in shares.items()}
    counts = {name: 1 + math.floor(value) for name, value in exact.items()}
    by_remainder = sorted(exact, key=lambda name: (math.floor(exact[name]) - exact[name], name))
    for name in by_remainder[: total - sum(counts.values())]:
        counts[name] += 1
    return counts


def stream_rows(
    seed: int, name: str, size: int, start: int, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rows ``start`` ... ``start + count - 1`` of a data set's endless shuffled stream.

    The stream is one permutation of the rows after another; permutation c is a function of
    (seed, name, c) alone, so any stretch of the stream can be had without what came before it.

    Returns:
        rows (count,) int64 in [0, size), and the number c of the pass each row belongs to (count,).
    """
    positions = np.arange(start, start + count, dtype=np.int64)
    passes, offsets = np.divmod(positions, size)
    rows = np.empty(count, dtype=np.int64)
    for number in np.unique(passes):
        chosen = passes == number
        rows[chosen] = _permutation(seed, name, size, int(number))[offsets[chosen]]
    return rows, passes


@lru_cache(maxsize=32)
def _permutation(seed: int, name: str, size: int, number: int) -> np.ndarray:
    key = [seed, number, *name.encode()]
    return np.random.default_rng(np.random.SeedSequence(key)).permutation(size)

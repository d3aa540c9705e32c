"""The sampler contract: how many rows of each data set a step has."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from pollinate.errors import UsageError
from pollinate.recipes import Buildable

Shares = Mapping[str, float]


class Sampler(metaclass=Buildable):
    """Says how many rows of each data set a step has.

    Args:
        batch_size: rows a step over all data sets and devices, >= number of data sets.
        steps_per_epoch: steps of one epoch, >= 1; None: all rows / batch_size, rounded up.
        bucket: steps whose rows are sorted by length before they are dealt out, >= 1; more leaves
            less padding, 1 is off.

    Examples:
        >>> import pollinate as po
        >>> class SquareRoot(po.samplers.Sampler):
        ...     def shares(self, sizes, epoch):
        ...         return {name: size**0.5 for name, size in sizes.items()}
        >>> SquareRoot(batch_size=10).counts({"reviews": 900, "photos": 100})
        {'reviews': 7, 'photos': 3}
    """

    def __init__(
        self, batch_size: int = 128, steps_per_epoch: int | None = None, bucket: int = 1
    ) -> None:
        if batch_size < 1:
            raise UsageError(f"sampler.batch_size must be >= 1, got {batch_size}")
        if steps_per_epoch is not None and steps_per_epoch < 1:
            raise UsageError(f"sampler.steps_per_epoch must be >= 1, got {steps_per_epoch}")
        if bucket < 1:
            raise UsageError(f"sampler.bucket must be >= 1 step, got {bucket}")
        self.batch_size = batch_size
        self.steps_per_epoch = steps_per_epoch
        self.bucket = bucket

    @abstractmethod
    def shares(self, sizes: Mapping[str, int], epoch: int) -> Shares:
        """Relative shares of the data sets in an epoch; need not sum to 1.

        Args:
            sizes: {data set: training rows}.
            epoch: counted from 0.
        """

    def counts(self, sizes: Mapping[str, int], epoch: int = 0) -> dict[str, int]:
        """Rows of each data set in every step: the shares, rounded, at least one row each."""
        return apportion(self.shares(sizes, epoch), self.batch_size)

    def bind(self, tasks: Mapping[str, Sequence[str]]) -> None:  # optional
        """Be told {data set: its tasks}, before anything else."""

    def observe(self, scores: Mapping[str, float]) -> None:  # optional
        """Be told each task's validation score, larger is better; on every rank alike."""

    def state_dict(self) -> dict[str, Any]:
        """Return what was observed, as plain values."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # optional
        """Go on with what ``state_dict`` returned."""

    def epoch_steps(self, sizes: Mapping[str, int]) -> int:
        """Steps of one epoch, >= 1."""
        return self.steps_per_epoch or math.ceil(sum(sizes.values()) / self.batch_size)


def temperature_shares(sizes: Mapping[str, int], temperature: float) -> dict[str, float]:
    """Return n_d^(1/T)."""
    return {name: size ** (1.0 / temperature) for name, size in sizes.items()}


def normalize_shares(shares: Shares) -> dict[str, float]:
    """Scale shares to sum 1."""
    total = sum(shares.values())
    return {name: share / total for name, share in shares.items()}


def apportion(shares: Shares, total: int) -> dict[str, int]:
    """Split ``total`` rows by ``shares``: largest remainders, at least one row each."""
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

"""Shares that a user gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from datamodules.samplers.base import Sampler, Shares
from pollinate.errors import UsageError
from pollinate.suggest import hint


class FixedShares(Sampler):
    """Data set d gets the share w_d / sum_i w_i.

    Args:
        batch_size: rows a step over all data sets and devices.
        steps_per_epoch: steps of one epoch; None: all rows / batch_size, rounded up.
        bucket: steps whose rows are sorted by length before they are dealt out.
        weights: {data set: w}, > 0; a data set that is left out has 1.

    Examples:
        >>> import pollinate as po
        >>> sampler = po.samplers.FixedShares(batch_size=10, weights={"reviews": 4.0})
        >>> sampler.counts({"reviews": 900, "photos": 100})  # rows of each step
        {'reviews': 7, 'photos': 3}
    """

    def __init__(
        self,
        batch_size: int = 128,
        steps_per_epoch: int | None = None,
        bucket: int = 1,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(batch_size, steps_per_epoch, bucket)
        self.weights = dict(weights or {})
        for name, weight in self.weights.items():
            if not weight > 0:
                raise UsageError(f"sampler.weights.{name} must be > 0, got {weight}")

    def bind(self, tasks: Mapping[str, Sequence[str]]) -> None:
        """Check the names.

        Raises:
            UsageError: a weight is for no data set.
        """
        for name in self.weights:
            if name not in tasks:
                raise UsageError(f"sampler.weights has {name!r}{hint(name, tasks, 'data sets')}")

    def shares(self, sizes: Mapping[str, int], epoch: int) -> Shares:
        """Return the weights."""
        return {name: self.weights.get(name, 1.0) for name in sizes}

"""Proportional sampling: a row is a row."""

from __future__ import annotations

from collections.abc import Mapping

from datamodules.samplers.base import Sampler, Shares


class Proportional(Sampler):
    """Data set d gets the share n_d / sum_i n_i, n_d being its number of training rows.

    Examples:
        >>> import pollinate as po
        >>> sampler = po.samplers.Proportional(batch_size=10)
        >>> sampler.counts({"reviews": 900, "photos": 100})  # rows of each step
        {'reviews': 8, 'photos': 2}
    """

    def shares(self, sizes: Mapping[str, int], epoch: int) -> Shares:
        """Return the sizes themselves."""
        return {name: float(size) for name, size in sizes.items()}

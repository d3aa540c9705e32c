"""Uniform sampling: a data set is a data set."""

from __future__ import annotations

from collections.abc import Mapping

from datamodules.samplers.base import Sampler, Shares


class Uniform(Sampler):
    """Each of D data sets gets the share 1 / D, so small ones are repeated more often.

    Examples:
        >>> import pollinate as po
        >>> sampler = po.samplers.Uniform(batch_size=10)
        >>> sampler.counts({"reviews": 900, "photos": 100})  # rows of each step
        {'reviews': 5, 'photos': 5}
        >>> sampler.epoch_steps({"reviews": 900, "photos": 100})
        100
    """

    def shares(self, sizes: Mapping[str, int], epoch: int) -> Shares:
        """Return 1 for every data set."""
        return dict.fromkeys(sizes, 1.0)

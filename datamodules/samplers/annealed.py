"""From one temperature to another."""

from __future__ import annotations

from collections.abc import Mapping

from datamodules.samplers.base import Sampler, Shares, normalize_shares, temperature_shares
from pollinate.errors import UsageError


class AnnealedTemperature(Sampler):
    """Shares go evenly from one temperature's to another's: s = (1 - a) s_start + a s_end.

    a = min(1, epoch / epochs); both shares are n_d^(1/T), scaled to sum 1. T = 1 is proportional,
    a large T is uniform.

    Args:
        batch_size: rows a step over all data sets and devices.
        steps_per_epoch: steps of one epoch; None: all rows / batch_size, rounded up.
        bucket: steps whose rows are sorted by length before they are dealt out.
        start: temperature of the first epoch, > 0.
        end: temperature from epoch ``epochs`` on, > 0.
        epochs: >= 1.

    Examples:
        >>> import pollinate as po
        >>> sampler = po.samplers.AnnealedTemperature(batch_size=10, end=1000.0, epochs=10)
        >>> rows = {"reviews": 900, "photos": 100}
        >>> [sampler.counts(rows, epoch)["photos"] for epoch in (0, 5, 10)]
        [2, 3, 5]
    """

    def __init__(
        self,
        batch_size: int = 128,
        steps_per_epoch: int | None = None,
        bucket: int = 1,
        start: float = 1.0,
        end: float = 100.0,
        epochs: int = 10,
    ) -> None:
        super().__init__(batch_size, steps_per_epoch, bucket)
        if not (start > 0 and end > 0):
            raise UsageError(f"sampler.start and sampler.end must be > 0, got {start} and {end}")
        if epochs < 1:
            raise UsageError(f"sampler.epochs must be >= 1, got {epochs}")
        self.start = start
        self.end = end
        self.epochs = epochs

    def shares(self, sizes: Mapping[str, int], epoch: int) -> Shares:
        """Return the mixture of the epoch."""
        part = min(1.0, epoch / self.epochs)
        first, last = (
            normalize_shares(temperature_shares(sizes, self.start)),
            normalize_shares(temperature_shares(sizes, self.end)),
        )
        return {name: (1 - part) * first[name] + part * last[name] for name in sizes}

"""Temperature sampling: between proportional and uniform."""

from __future__ import annotations

from collections.abc import Mapping

from datamodules.samplers.base import Sampler, Shares, temperature_shares
from pollinate.errors import UsageError


class Temperature(Sampler):
    """Data set d gets a share proportional to n_d^(1/T).

    T = 1 is proportional; T -> infinity is uniform. Source: Devlin et al., multilingual BERT
    (exponent 0.7); Aharoni et al. 2019, section 4.

    Args:
        batch_size: rows a step over all data sets and devices.
        steps_per_epoch: steps of one epoch; None: all rows / batch_size, rounded up.
        bucket: steps whose rows are sorted by length before they are dealt out.
        temperature: T, > 0.

    Examples:
        >>> import pollinate as po
        >>> rows = {"reviews": 900, "photos": 100}
        >>> for temperature in (1.0, 2.0, 1000.0):
        ...     po.samplers.Temperature(batch_size=10, temperature=temperature).counts(rows)
        {'reviews': 8, 'photos': 2}
        {'reviews': 7, 'photos': 3}
        {'reviews': 5, 'photos': 5}
    """

    def __init__(
        self,
        batch_size: int = 160,
        steps_per_epoch: int | None = None,
        bucket: int = 1,
        temperature: float = 6.0,
    ) -> None:
        super().__init__(batch_size, steps_per_epoch, bucket)
        if not temperature > 0:
            raise UsageError(f"sampler.temperature must be > 0, got {temperature}")
        self.temperature = temperature

    def shares(self, sizes: Mapping[str, int], epoch: int) -> Shares:
        """Return n_d^(1/T)."""
        return temperature_shares(sizes, self.temperature)

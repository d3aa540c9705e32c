"""Which counts hold in which epoch, and where each data set's stream then stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from datamodules.samplers.base import Sampler


class Plan:
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

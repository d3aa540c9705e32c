"""What methods have in common that compare this run's features with a source's."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from datamodules.batch import MixedBatch
from lightning_modules.gather import gathered
from lightning_modules.metrics import summed
from lightning_modules.transfer.base import Opener, Transfer, TransferLosses, TransferStep
from lightning_modules.transfer.pairs import Pair, Pairs
from lightning_modules.transfer.probe import probed
from pipeline.errors import UsageError

if TYPE_CHECKING:
    from datamodules.mixed import MixedDataModule
    from lightning_modules.multitask import MultiTaskModule


class Comparing(Transfer):
    """weight x distance(this run's features, a source's features of the same rows).

    That of what a task's head reads is added to the task's loss; that of an encoder belongs to no
    task, and is added after balancing.

    Args:
        weight: of what is added, >= 0.
        until: optimizer steps after which nothing is added, None: never.

    Raises:
        UsageError: a value out of range.
    """

    def __init__(self, weight: float, until: int | None) -> None:
        super().__init__()
        if weight < 0:
            raise UsageError(f"transfer.weight must be >= 0, got {weight}")
        if until is not None and until < 1:
            raise UsageError(f"transfer.until must be >= 1 optimizer step, got {until}")
        self.weight, self.until = weight, until
        self._pairs: Pairs | None = None
        self._latest: dict[str, Tensor] = {}  # as ``step.mean`` scales

    @abstractmethod
    def find_pairs(
        self, module: MultiTaskModule, datamodule: MixedDataModule, sources: Opener
    ) -> Pairs:
        """Open the sources; return what finds features to compare.

        Raises:
            PollinateError: there is no such source.
            UsageError: it lacks a task or a modality, or reads other rows.
        """

    @abstractmethod
    def distance(self, name: str, pair: Pair, step: TransferStep) -> Tensor:
        """Return how far this run's features are from the source's: (), as ``step.mean`` scales.

        Args:
            name: of the pair.
            pair: in 32 bits or more.
            step: whose rows.
        """

    def fit_to(self, name: str, pair: Pair) -> None:
        """Make what the comparison needs, such as layers, for features like those of the pair."""

    def setup(
        self, module: MultiTaskModule, datamodule: MixedDataModule, sources: Opener
    ) -> list[str]:
        """Open the sources, and look at a few rows.

        Raises:
            PollinateError: as for ``find_pairs``.
        """
        self._pairs = self.find_pairs(module, datamodule, sources)
        lines = []
        for name, pair in self._pairs.find(probed(module, datamodule)).items():
            self.fit_to(name, pair)
            whose = self._pairs.whose(name)
            lines.append(f"{name}: {shape(pair.own)} here, {shape(pair.other)} of {whose}")
        return lines

    def losses(self, step: TransferStep) -> TransferLosses:
        """Return the weighted distances."""
        if self.until is not None and step.number >= self.until:
            self._latest = {}
            return TransferLosses()
        assert self._pairs is not None, "setup comes first"
        found = {}
        for name, pair in self._pairs.find(step).items():
            with torch.autocast(pair.own.device.type, enabled=False):
                found[name] = self.weight * self.distance(name, pair.precise(), step)
        self._latest = {name: loss.detach() for name, loss in found.items()}
        if self._pairs.of_tasks:
            return TransferLosses(by_task=found)
        return TransferLosses(rest=torch.stack(list(found.values())).sum() if found else None)

    def wanted(self, batch: MixedBatch) -> Sequence[str]:
        """Return the tasks that learn, with labels or without."""
        return () if self._pairs is None else self._pairs.wanted(batch.sizes)

    def gauges(self) -> dict[str, float]:
        """Return the last step's weighted distances."""
        kind = type(self).__name__.lower()
        return {f"transfer/{kind}/{name}": mean(value) for name, value in self._latest.items()}


def mean_of_rows(distances: Tensor, pair: Pair, step: TransferStep) -> Tensor:
    """Return the mean of distances (n,) over the rows of all processes, as ``step.mean`` does."""
    return step.mean(distances * pair.counts, pair.rows)


def of_all_rows(pair: Pair, least: int, between: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Return the distance of two sets of rows, those of all processes together.

    Their number changes nothing then. Fewer rows than ``least`` have no distance, and get 0.

    Args:
        pair: (n, D) and (n, D').
        least: rows that the distance is defined for.
        between: of (n, D) and (n, D'): ().
    """
    own, other = gathered(pair.own)[0], gathered(pair.other)[0]
    return between(own, other) if len(own) >= least else own.sum() * 0


def shape(features: Tensor) -> str:
    """Return the shape of a row's features, width last: ``7 x 7 x 64``."""
    width, *sides = features.shape[1:] if features.dim() == 4 else features.shape[:0:-1]
    return " x ".join(str(one) for one in [*sides, width])


def mean(value: Tensor) -> float:
    """Return the mean over all processes."""
    here = torch.distributed.is_available() and torch.distributed.is_initialized()
    world = torch.distributed.get_world_size() if here else 1
    return summed(value.double().cpu()).item() / world

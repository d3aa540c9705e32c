"""The transfer contract: how knowledge from elsewhere reaches this run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from datamodules.batch import MixedBatch
    from datamodules.mixed import MixedDataModule
    from lightning_modules.multitask import MultiTaskModule


@dataclass
class TransferLosses:
    """What a transfer method adds to a step.

    by_task: {task: scalar}, added to that task's loss before balancing.
    rest: a scalar that belongs to no task, added after balancing, or None.
    """

    by_task: dict[str, Tensor] = field(default_factory=dict)
    rest: Tensor | None = None


class Transfer(ABC):
    """A method that brings knowledge from a source into this run."""

    @abstractmethod
    def setup(self, module: MultiTaskModule, datamodule: MixedDataModule) -> None:
        """Prepare the run before training starts: load sources, initialise or freeze parts."""

    @abstractmethod
    def losses(self, outputs: Mapping[str, Tensor], batch: MixedBatch) -> TransferLosses:
        """Return this step's additional losses.

        Args:
            outputs: {task: (N, ...)}.
            batch: the step's rows.
        """

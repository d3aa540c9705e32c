"""The transfer contract: how knowledge from elsewhere reaches this run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor, nn

from datamodules.batch import MixedBatch
from lightning_modules.trace import Trace

if TYPE_CHECKING:
    from datamodules.mixed import MixedDataModule
    from lightning_modules.multitask import MultiTaskModule
    from lightning_modules.transfer.source import Source


class Opener(Protocol):
    """Opens sources by what a user calls them."""

    def open(self, what: str) -> Source:
        """Return the source.

        Raises:
            PollinateError: there is none, or it changed since the run was started.
        """


@dataclass
class TransferStep:
    """What a step's additional losses may look at.

    batch: the step's rows.
    outputs: {task: (N, ...)}, of the tasks that the step has.
    trace: what was made on the way: encoded rows by data set, what heads read by task.
    number: optimizer steps done, >= 0.
    total: optimizer steps of the whole run, None where no end is set.
    world: processes, >= 1.
    """

    batch: MixedBatch
    outputs: Mapping[str, Tensor]
    trace: Trace
    number: int = 0
    total: int | None = None
    world: int = 1

    def mean(self, losses: Tensor, rows: int) -> Tensor:
        """Return the mean of losses over all processes' rows, this one's part times their number.

        That is how the gradients' average over processes becomes the gradient of the mean.

        Args:
            losses: (n,) of this process' rows.
            rows: of all processes, >= 1; ``batch.sizes`` and ``batch.labelled`` tell.
        """
        return losses.sum() * (self.world / rows)


@dataclass
class Report:
    """Where a method that acts between steps tells what it did.

    publish: logs {name: number}.
    say: writes a line for the user.
    """

    publish: Callable[[Trainer, dict[str, float]], None]
    say: Callable[[str], None]


@dataclass
class TransferLosses:
    """What a transfer method adds to a step.

    by_task: {task: scalar}, added to that task's loss before balancing. They may depend on shared
        weights through what the task's head read, ``trace.representations`` or ``outputs``, alone.
    rest: a scalar that belongs to no task, added after balancing, or None.
    labels: {task: factor, >= 0, on the loss of its labels}, 1 for a task that isn't named.
    """

    by_task: dict[str, Tensor] = field(default_factory=dict)
    rest: Tensor | None = None
    labels: dict[str, float] = field(default_factory=dict)


class Transfer(nn.Module, ABC):
    """A method that brings knowledge from a source into this run.

    It is a part of the module that trains: its own parameters have a place in optimizer and
    checkpoint. Other models, teachers say, are not: they are kept outside the tree of modules.
    """

    @abstractmethod
    def setup(
        self, module: MultiTaskModule, datamodule: MixedDataModule, sources: Opener
    ) -> list[str]:
        """Prepare the run before its optimizer is made: open sources, initialise or freeze parts.

        A run that is resumed (``datamodule.learnt`` is set) gets its weights from its checkpoint
        afterwards.

        Returns:
            lines for the user: what was taken from where.

        Raises:
            PollinateError: a source can't be had, or doesn't fit.
        """

    def prepare(self, device: torch.device, say: Callable[[str], None]) -> None:
        """Do what takes long before the first step, on the device that trains.

        By then it is known which encoders' features are kept: ``Part.kept``.

        Args:
            device: of this process.
            say: tells the user.

        Raises:
            PollinateError: it can't be done.
        """

    @abstractmethod
    def losses(self, step: TransferStep) -> TransferLosses:
        """Return this step's additional losses; asked by all processes alike."""

    def wanted(self, batch: MixedBatch) -> Sequence[str]:
        """Return tasks of which outputs are needed even where no row has a label of them.

        All processes must return the same: ``batch.sizes`` is known to all.
        """
        return ()

    @property
    def lines(self) -> int:
        """How many stretches of training start at the same weights; a schedule goes through one."""
        return 1

    def adopt(self, trainer: Trainer) -> None:
        """Be told of the trainer, after ``setup`` and before training.

        Raises:
            UsageError: the method can't work with it.
        """

    def weighed(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return {task: loss} as the balancer gets them; tasks may be left out."""
        return dict(losses)

    def callbacks(self, report: Report) -> list[Callback]:
        """Return what acts between steps."""
        return []

    def gauges(self) -> dict[str, float]:
        """Return {name: number} to log with a step's losses: ``source/<task>/<source>``, say."""
        return {}

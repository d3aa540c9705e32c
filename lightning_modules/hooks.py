"""The general hooks of training: what the module calls, and what its hooks may use of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor, nn

from datamodules.batch import MixedBatch
from datamodules.mixed_datamodule import MixedDataModule
from lightning_modules.network import ForwardTrace, MultiTaskNetwork
from lightning_modules.source_models import SourceProvider
from lightning_modules.tasks.base import Task


class HookedModule(Protocol):
    """What hooks may use of the module that trains.

    network: what is trained.
    tasks: {name: task}.
    spec: plain values, part of every checkpoint, from which the network can be built again.
    """

    network: MultiTaskNetwork
    tasks: dict[str, Task]
    spec: dict[str, Any]


@dataclass
class TrainingStep:
    """What a step's additional losses may look at.

    batch: the step's rows.
    outputs: {task: (N, ...)}, of the tasks that the step has.
    trace: what was made on the way: encoded rows by data set, what heads read by task.
    steps_done: optimizer steps, >= 0.
    total_steps: optimizer steps of the whole run, None where no end is set.
    world_size: processes, >= 1.
    """

    batch: MixedBatch
    outputs: Mapping[str, Tensor]
    trace: ForwardTrace
    steps_done: int = 0
    total_steps: int | None = None
    world_size: int = 1

    def mean(self, losses: Tensor, rows: int) -> Tensor:
        """Return the mean of losses over all processes' rows, this one's part times their number.

        That is how the gradients' average over processes becomes the gradient of the mean.

        Args:
            losses: (n,) of this process' rows.
            rows: of all processes, >= 1; ``batch.sizes`` and ``batch.labelled`` tell.
        """
        return losses.sum() * (self.world_size / rows)


@dataclass
class HookReporter:
    """Where hooks that act between steps tell what they did.

    publish: logs {name: number}.
    say: writes a line for the user.
    """

    publish: Callable[[Trainer, dict[str, float]], None]
    say: Callable[[str], None]


@dataclass
class AddedLosses:
    """What hooks add to a step.

    by_task: {task: scalar}, added to that task's loss before balancing. They may depend on shared
        weights through what the task's head read, ``trace.representations`` or ``outputs``, alone.
    regularization: a scalar that belongs to no task, added after balancing, or None.
    label_weights: {task: factor, >= 0, on the loss of its labels}, 1 for a task that isn't named.
    """

    by_task: dict[str, Tensor] = field(default_factory=dict)
    regularization: Tensor | None = None
    label_weights: dict[str, float] = field(default_factory=dict)


class TrainingHooks(nn.Module):
    """What takes part in training beside the network and the balancer: a transfer method, say.

    It is a part of the module that trains: its own parameters have a place in optimizer and
    checkpoint. Other models, teachers say, are not: they are kept outside the tree of modules.
    """

    def setup(
        self, module: HookedModule, datamodule: MixedDataModule, sources: SourceProvider
    ) -> list[str]:
        """Prepare the run before its optimizer is made: open sources, initialise or freeze parts.

        A run that is resumed (``datamodule.learnt`` is set) gets its weights from its checkpoint
        afterwards.

        Returns:
            lines for the user: what was taken from where.

        Raises:
            PollinateError: a source can't be had, or doesn't fit.
        """
        return []

    def prepare(self, device: torch.device, say: Callable[[str], None]) -> None:
        """Do what takes long before the first step, on the device that trains.

        By then it is known which encoders' features are cached: ``SplitDataset.cached``.

        Args:
            device: of this process.
            say: tells the user.

        Raises:
            PollinateError: it can't be done.
        """

    def change_batch(
        self, batch: MixedBatch, network: MultiTaskNetwork, steps_done: int
    ) -> MixedBatch:
        """Return what the step learns from in place of a batch; asked by all processes alike.

        It is a pure function of its arguments, so that a resumed run is exact, and may ask the
        network, without a gradient.

        Args:
            batch: the step's rows.
            network: with the weights before the step.
            steps_done: optimizer steps, >= 0.
        """
        return batch

    def losses(self, step: TrainingStep) -> AddedLosses:
        """Return this step's additional losses; asked by all processes alike."""
        return AddedLosses()

    def required_tasks(self, batch: MixedBatch) -> Sequence[str]:
        """Return tasks of which outputs are needed even where no row has a label of them.

        All processes must return the same: ``batch.sizes`` is known to all.
        """
        return ()

    @property
    def trains_branches(self) -> bool:
        """Whether branches are trained from the same weights; a run can have one set of them."""
        return False

    @property
    def changes_network(self) -> bool:
        """Whether ``setup`` gives the network parts, which all branches have."""
        return False

    @property
    def num_branches(self) -> int:
        """How many stretches of training start at the same weights; a schedule goes through one."""
        return 1

    def attach(self, trainer: Trainer) -> None:
        """Be told of the trainer, after ``setup`` and before training.

        Raises:
            UsageError: the method can't work with it.
        """

    def weight_losses(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return {task: loss} as the balancer gets them; tasks may be left out."""
        return dict(losses)

    def callbacks(self, report: HookReporter) -> list[Callback]:
        """Return what acts between steps."""
        return []

    def gauges(self) -> dict[str, float]:
        """Return {name: number} to log with a step's losses: ``source/<task>/<source>``, say."""
        return {}

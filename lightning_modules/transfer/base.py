"""The transfer contract: how knowledge from a source reaches this run."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor, nn

from datamodules.batch import MixedBatch
from lightning_modules.network import ForwardTrace
from pollinate.errors import UsageError
from pollinate.recipes import Buildable

if TYPE_CHECKING:
    from datamodules.mixed_datamodule import MixedDataModule
    from lightning_modules.module import MultiTaskModule
    from lightning_modules.predictor import Predictor


@dataclass(frozen=True)
class SourceModel:
    """A model that was trained before.

    name: as the user called it.
    digest: of its files: what the run depends on.
    weights: {name: tensor}; names of a model of this project are as in its network:
        ``encoders.image...``, ``trunk...``, ``heads.<task>...``.
    spec: from which a model of this project can be built again, None of other models.
    load: builds it, with its weights, tokenizer and vocabularies.
    """

    name: str
    digest: str
    weights: Mapping[str, Tensor]
    spec: Mapping[str, Any] | None
    load: Callable[[], Predictor]

    def predictor(self) -> Predictor:
        """Return the model, in evaluation mode, with all that it needs around it.

        Raises:
            UsageError: it is no model of this project, and has no tasks.
        """
        if self.spec is None:
            raise UsageError(
                f"{self.name} must be a run of this project, which knows its tasks, got a folder "
                "of another library; train heads on it first: python -m pipeline.fit"
            )
        return self.load()

    def single_network(self) -> SourceModel:
        """Return itself, of which features or weights are wanted.

        Raises:
            UsageError: it is an ensemble.
        """
        if self.spec is not None:
            refuse_ensemble(self.name, self.spec)
        return self

    @property
    def learnt(self) -> Mapping[str, Any]:
        """Vocabularies and tokenizers; empty for other libraries' models."""
        return {} if self.spec is None else self.spec["learnt"]


def refuse_ensemble(name: str, spec: Mapping[str, Any]) -> None:
    """Refuse a model of several networks where features or weights are wanted.

    Args:
        name: as the user called it.
        spec: what its checkpoint says of it.

    Raises:
        UsageError: it is one.
    """
    if "members" in spec["config"]:
        raise UsageError(
            f"{name} is an ensemble, which has answers, but neither features nor weights of its "
            "own; name one of its members, or learn from its answers: transfer=hinton"
        )


class SourceProvider(Protocol):
    """Opens sources by what a user calls them."""

    def open(self, what: str) -> SourceModel:
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
class TransferReporter:
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
    regularization: a scalar that belongs to no task, added after balancing, or None.
    label_weights: {task: factor, >= 0, on the loss of its labels}, 1 for a task that isn't named.
    """

    by_task: dict[str, Tensor] = field(default_factory=dict)
    regularization: Tensor | None = None
    label_weights: dict[str, float] = field(default_factory=dict)


class Transfer(nn.Module, metaclass=Buildable):
    """A method that brings knowledge from a source into this run.

    It is a part of the module that trains: its own parameters have a place in optimizer and
    checkpoint. Other models, teachers say, are not: they are kept outside the tree of modules.
    """

    @abstractmethod
    def setup(
        self, module: MultiTaskModule, datamodule: MixedDataModule, sources: SourceProvider
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

    def required_tasks(self, batch: MixedBatch) -> Sequence[str]:
        """Return tasks of which outputs are needed even where no row has a label of them.

        All processes must return the same: ``batch.sizes`` is known to all.
        """
        return ()

    @property
    def num_branches(self) -> int:
        """How many stretches of training start at the same weights; a schedule goes through one."""
        return 1

    def adopt(self, trainer: Trainer) -> None:
        """Be told of the trainer, after ``setup`` and before training.

        Raises:
            UsageError: the method can't work with it.
        """

    def weight_losses(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return {task: loss} as the balancer gets them; tasks may be left out."""
        return dict(losses)

    def callbacks(self, report: TransferReporter) -> list[Callback]:
        """Return what acts between steps."""
        return []

    def gauges(self) -> dict[str, float]:
        """Return {name: number} to log with a step's losses: ``source/<task>/<source>``, say."""
        return {}


PROBE_ROWS = 2  # of each data set


def probe_step(module: MultiTaskModule, datamodule: MixedDataModule) -> TransferStep:
    """Return the first rows of each data set, and what the run's network makes of them."""
    parts = datamodule.parts["train"]
    batches = {
        name: part.batch(np.arange(min(PROBE_ROWS, part.size))) for name, part in parts.items()
    }
    sizes = {name: len(batch.index) for name, batch in batches.items()}
    network, trace = module.network, ForwardTrace()
    training = network.training
    network.eval()
    with torch.no_grad():
        outputs = network(batches, trace=trace)
    network.train(training)
    return TransferStep(MixedBatch(batches, {}, sizes), outputs, trace)

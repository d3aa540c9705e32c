"""What one teacher says of one task on one data set."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from datamodules.batch import MixedBatch
from lightning_modules.transfer.base import TransferStep
from lightning_modules.transfer.teachers.model import ModelAtData


class Voice(ABC):
    """Outputs for a step's rows of one data set, in the order of the classes here.

    Attributes:
        needs: tasks of this run whose outputs it takes.
    """

    needs: tuple[str, ...] = ()

    @abstractmethod
    def outputs(self, step: TransferStep) -> tuple[Tensor, Tensor]:
        """Return outputs (n, ...) of this process' rows, and which have some, (n,) bool."""

    @abstractmethod
    def complete(self) -> bool:
        """Say whether every training row has an output; all processes must know the same."""


class OfModel(Voice):
    """Another model's.

    Args:
        model: at the data set.
        task: of the model.
        places: where the classes here are among the model's; None: in the same places.
    """

    def __init__(self, model: ModelAtData, task: str, places: Sequence[int] | None) -> None:
        self.model = model
        self.task = task
        self.places = None if places is None else list(places)
        model.want(task)

    def outputs(self, step: TransferStep) -> tuple[Tensor, Tensor]:
        """Return the model's."""
        found, has = self.model.outputs(self.task, step.batch.batches[self.model.dataset])
        return arranged(found, self.places), has

    def complete(self) -> bool:
        """Ask the model."""
        return self.model.complete(self.task)


class OfPeer(Voice):
    """Those of another task of this run, as they are.

    Args:
        task: that teaches.
        dataset: whose rows.
        route: the task's data sets, in order.
        places: as for ``OfModel``.
    """

    def __init__(
        self, task: str, dataset: str, route: Sequence[str], places: Sequence[int] | None
    ) -> None:
        self.task = task
        self.needs = (task,)
        self.dataset = dataset
        self.route = tuple(route)
        self.places = None if places is None else list(places)

    def outputs(self, step: TransferStep) -> tuple[Tensor, Tensor]:
        """Return the task's outputs, without a gradient."""
        rows = rows_by_dataset(step.batch, self.route)[self.dataset]
        found = step.outputs[self.task].detach()[rows]
        return arranged(found, self.places), torch.ones(len(found), dtype=torch.bool)

    def complete(self) -> bool:
        """Say that a task has outputs for every row."""
        return True


def arranged(outputs: Tensor, places: Sequence[int] | None) -> Tensor:
    """Return outputs (n, C) in the order of the classes here."""
    return outputs if places is None else outputs[:, list(places)]


def rows_by_dataset(batch: MixedBatch, route: Sequence[str]) -> Mapping[str, slice]:
    """Return {data set: where its rows are among the outputs of a task}.

    Args:
        batch: a step's.
        route: the task's data sets, in order.
    """
    found, start = {}, 0
    for name in route:
        if name in batch.batches:
            stop = start + len(batch.batches[name].index)
            found[name] = slice(start, stop)
            start = stop
    return found

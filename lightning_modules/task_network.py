"""What every model offers, of one network or of several: rows in, every task's output out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from datamodules.batch import Batch
from lightning_modules.tasks.base import Task
from lightning_modules.trunks.base import Routes
from lightning_modules.views import EncodedDataset


class TaskNetwork(nn.Module, ABC):
    """Predicts tasks on rows of data sets: one network, or a combination of several.

    Args:
        routes: {task: data sets whose rows it is predicted from}.

    Attributes:
        forms: {form of a modality, as this network calls it: as batches call it}, of one that
            stands beside networks that read otherwise; empty: batches have what it reads, alone.
    """

    def __init__(self, routes: Routes) -> None:
        super().__init__()
        self.routes = {task: tuple(names) for task, names in routes.items()}
        self.forms: Mapping[str, str] = {}

    def as_read(self, batches: Mapping[str, Batch]) -> Mapping[str, Batch]:
        """Return rows as this network reads them, where others read them otherwise."""
        if not self.forms:
            return batches
        return {name: batch.in_forms(self.forms) for name, batch in batches.items()}

    @property
    def networks(self) -> Sequence[TaskNetwork]:
        """The networks that predict: several for a combination, else itself."""
        return (self,)

    @abstractmethod
    def modalities(self) -> tuple[str, ...]:
        """Return those whose rows it encodes, of an ensemble in all of their forms."""

    @abstractmethod
    def encode(self, batches: Mapping[str, Batch], routes: Routes) -> dict[str, EncodedDataset]:
        """Encode rows.

        Args:
            batches: {data set: rows}.
            routes: {task: data sets}: what will be predicted from the rows.

        Returns:
            {key: rows}, for ``predict``.
        """

    @abstractmethod
    def predict(self, encoded: Mapping[str, EncodedDataset], routes: Routes) -> dict[str, Tensor]:
        """Return {task: (N, ...)} of encoded rows.

        Args:
            encoded: what ``encode`` returned.
            routes: {task: data sets}; those that were not encoded are left out.
        """

    def member_outputs(
        self, encoded: Mapping[str, EncodedDataset], routes: Routes
    ) -> dict[str, list[Tensor]]:
        """Return {task: the outputs (N, ...) of each network that predicts it}: see ``predict``."""
        return {task: [output] for task, output in self.predict(encoded, routes).items()}

    def forward(
        self, batches: Mapping[str, Batch], tasks: Sequence[str] | None = None
    ) -> dict[str, Tensor]:
        """Predict.

        Args:
            batches: {data set: rows}.
            tasks: the tasks wanted; None: every task that a data set in ``batches`` is for.

        Returns:
            {task: (N, ...)}, rows of the task's data sets in the order of its route.
        """
        routes = self.routes_of(tasks)
        return self.predict(self.encode(batches, routes), routes)

    def answer(
        self,
        batches: Mapping[str, Batch],
        routes: Routes,
        limits: Mapping[str, int] | None = None,
    ) -> dict[str, Tensor]:
        """Return what people and metrics see: ``predict``, and of answers in words these.

        Args:
            batches: {data set: rows}.
            routes: {task: data sets} of the tasks wanted.
            limits: {task: only for rows whose number is below this an answer is written}.
        """
        return self.predict(self.encode(batches, routes), routes)

    def routes_of(self, tasks: Sequence[str] | None) -> dict[str, tuple[str, ...]]:
        """Return the data sets of some tasks; None: of all."""
        return {task: self.routes[task] for task in (self.routes if tasks is None else tasks)}


class CombinesNetworks(ABC):
    """A class that can make one model of several networks; see ``building.build_combination``."""

    @classmethod
    @abstractmethod
    def combine(
        cls,
        networks: Mapping[str, TaskNetwork],
        tasks: Mapping[str, Task],
        routes: Routes,
        options: Mapping[str, Any],
    ) -> TaskNetwork:
        """Return the model.

        Args:
            networks: {name: network} of any shapes; their tasks may differ.
            tasks: {name: task} of all of them.
            routes: {task: data sets}.
            options: of the class, as plain values.
        """

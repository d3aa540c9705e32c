"""A teacher that is another model, at one data set of this run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from datamodules.batch import Batch
from datamodules.mixed import MixedDataModule
from lightning_modules.transfer.source import Source
from lightning_modules.transfer.teachers.live import LiveOutputs, Routes, routes_of
from lightning_modules.transfer.teachers.reading import Read
from lightning_modules.transfer.teachers.table import OutputTable, Pass, output_table
from pipeline.errors import UsageError

if TYPE_CHECKING:
    from pipeline.prediction.predictor import Predictor


class ModelAtData:
    """Looks its outputs up where rows are the same in every epoch, else runs on each step's rows.

    Args:
        source: the teacher.
        predictor: what it is when it is loaded.
        dataset: of this run.
        read: {modality: what it reads of the data set's rows}.
    """

    def __init__(
        self, source: Source, predictor: Predictor, dataset: str, read: Mapping[str, Read]
    ) -> None:
        self.name, self.digest = source.name, source.digest
        self.predictor: Predictor | None = predictor
        self.dataset = dataset
        self.read = dict(read)
        self.tasks: list[str] = []  # of the teacher, those wanted here
        self.table: OutputTable | None = None
        self.live: LiveOutputs | None = None
        self.has_all = False  # whether every row has what a live teacher reads

    def want(self, task: str) -> None:
        """Ask for the outputs of one of its tasks."""
        if task not in self.tasks:
            self.tasks.append(task)

    def require_possible(self, data: MixedDataModule) -> None:
        """Check that rows that are streamed can be shown to the teacher as they come.

        Raises:
            UsageError: they can't.
        """
        if data.loaded[self.dataset].table.streamed and self._routes(data) is None:
            raise UsageError(
                f"the rows of {self.dataset} are streamed, so {self.name} must read them as the "
                "run prepares them, and it prepares them otherwise; leave streaming out: "
                f"data.datasets.{self.dataset}.streaming=false"
            )

    def prepare(
        self, data: MixedDataModule, device: torch.device, say: Callable[[str], None]
    ) -> None:
        """Compute its outputs once if it can, and forget the model then."""
        assert self.predictor is not None
        part, loaded = data.parts["train"][self.dataset], data.loaded[self.dataset]
        routes = None if part.kept.keys() & self.read.keys() else self._routes(data)
        changing = [k for m in self.read for k in random_keys(data, m)]
        if routes is not None and (changing or loaded.table.streamed):
            self.live = LiveOutputs(self.predictor, routes)
            self.has_all = bool(all(part.stores[m].has[part.rows].all() for m in self.read))
            why = f"{', '.join(changing)} changes them at random" if changing else "are streamed"
            say(f"note: {self.name} looks at {self.dataset} in every step: its rows {why}")
            return
        if changing:
            say(
                f"note: {self.name} looks at the rows of {self.dataset} as they are, before "
                f"{', '.join(changing)} changes them: it prepares them otherwise"
            )
        what = f"outputs of {self.name} for {part.size:,} rows of {self.dataset}"
        self.predictor.network.to(device)
        columns = {modality: one.cells for modality, one in self.read.items()}
        one = Pass(self.predictor, self.tasks, columns, part.rows, what)
        keys = {modality: one.key for modality, one in self.read.items()}
        self.table = output_table(data.policy.cache, self.digest, keys, one, say)
        self._tell(data, say)
        self.predictor = None

    def outputs(self, task: str, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return outputs (n, ...) for rows of the data set, and which have some, (n,) bool."""
        if self.table is not None:
            return self.table.rows(task, batch.index)
        assert self.live is not None
        return self.live.rows(task, batch)

    def complete(self, task: str) -> bool:
        """Say whether every training row has an output."""
        return self.has_all if self.table is None else self.table.complete(task)

    def _routes(self, data: MixedDataModule) -> Routes | None:
        """Return how it can take rows as this run prepares them, None if it can't."""
        assert self.predictor is not None
        if not all(one.own for one in self.read.values()):
            return None
        return routes_of(self.predictor, self.tasks, self.read, data.modalities)

    def _tell(self, data: MixedDataModule, say: Callable[[str], None]) -> None:
        """Say which rows it has nothing to say of."""
        assert self.table is not None
        unreadable = self.table.unreadable
        if unreadable:
            place, error = next(iter(unreadable.items()))
            loaded, rows = data.loaded[self.dataset], data.parts["train"][self.dataset].rows
            where = loaded.table.place(int(rows[place]))
            say(
                f"note: {self.name} can't read {len(unreadable):,} rows of {self.dataset}, which "
                f"it doesn't teach, such as {where}: {error}"
            )


def random_keys(data: MixedDataModule, modality: str) -> list[str]:
    """Return what changes a modality's rows at random in this run, as key=value."""
    found = data.modalities.get(modality)
    return [] if found is None else [f"{k}={v}" for k, v in found.random_keys().items()]

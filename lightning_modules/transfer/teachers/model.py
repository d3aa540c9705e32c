"""A teacher that is another model, at one data set of this run."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from datamodules.batch import Batch
from datamodules.dataset import Part
from datamodules.mixed import MixedDataModule
from lightning_modules.transfer.source import Source
from lightning_modules.transfer.teacher import Teacher
from lightning_modules.transfer.teachers.live import LiveOutputs, can_look
from lightning_modules.transfer.teachers.reading import Read
from lightning_modules.transfer.teachers.table import OutputTable, Pass, output_table
from pipeline.errors import UsageError


class ModelAtData:
    """Looks its outputs up where rows are the same in every epoch, else runs on each step's rows.

    Args:
        source: the teacher.
        dataset: of this run.
        read: {modality: what it reads of the data set's rows}.
    """

    def __init__(self, source: Source, dataset: str, read: Mapping[str, Read]) -> None:
        self.name = source.name
        self.source: Source | None = source  # until it is known that it isn't needed any more
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
        if data.loaded[self.dataset].table.streamed and not self._can_look(data):
            raise UsageError(
                f"the rows of {self.dataset} are streamed, so {self.name} must read them as the "
                "run prepares them, and it prepares them otherwise; leave streaming out: "
                f"data.datasets.{self.dataset}.streaming=false"
            )

    def prepare(
        self, data: MixedDataModule, device: torch.device, say: Callable[[str], None]
    ) -> None:
        """Compute its outputs once if it can, and forget the model then."""
        part, loaded = data.parts["train"][self.dataset], data.loaded[self.dataset]
        changing = ", ".join(key for modality in self.read for key in random_keys(data, modality))
        rows = f"the rows of {self.dataset}"
        if part.kept.keys() & self.read.keys() or not self._can_look(data):
            if changing:
                say(
                    f"note: {self.name} looks at {rows} as they are, before {changing} changes them"
                )
        elif changing or loaded.table.streamed:
            why = f"{changing} changes them" if changing else "they are streamed"
            say(f"note: {self.name} looks at {rows} in every step, as {why}")
            self._look(part)
            return
        self._compute(data, part, device, say)

    def _look(self, part: Part) -> None:
        """Keep the model, to look at rows as they come."""
        assert self.source is not None
        self.live = LiveOutputs(Teacher(self.source), self.dataset, self.read, self.tasks)
        self.has_all = bool(all(part.stores[m].has[part.rows].all() for m in self.read))

    def _compute(
        self, data: MixedDataModule, part: Part, device: torch.device, say: Callable[[str], None]
    ) -> None:
        """Have all outputs in a table."""
        assert self.source is not None
        predictor = self.source.predictor()
        predictor.network.to(device)
        columns = {modality: one.cells for modality, one in self.read.items()}
        what = f"outputs of {self.name} for {part.size:,} rows of {self.dataset}"
        one = Pass(predictor, self.tasks, columns, part.rows, what)
        keys = {modality: one.key for modality, one in self.read.items()}
        self.table = output_table(data.policy.cache, self.source.digest, keys, one, say)
        self._tell(data, say)
        self.source = None  # a model may be large

    def outputs(self, task: str, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return outputs (n, ...) for rows of the data set, and which have some, (n,) bool."""
        if self.table is not None:
            return self.table.rows(task, batch.index)
        assert self.live is not None
        return self.live.rows(task, batch)

    def complete(self, task: str) -> bool:
        """Say whether every training row has an output."""
        return self.has_all if self.table is None else self.table.complete(task)

    def _can_look(self, data: MixedDataModule) -> bool:
        """Say whether it can take rows as this run prepares them."""
        assert self.source is not None
        own = all(one.own for one in self.read.values())
        return own and can_look(self.source.predictor(), self.tasks, self.read, data.modalities)

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

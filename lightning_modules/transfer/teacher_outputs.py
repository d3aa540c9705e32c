"""A teacher's outputs for the rows of a dataset: computed once and cached, or in every step."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datamodules.arrays import FileArrays
from datamodules.batch import Batch, MixedBatch
from datamodules.cache import Cache
from datamodules.inputs import InputColumns, columns_named, input_cells, input_key
from datamodules.loading import LoadedDataset
from datamodules.mixed_datamodule import MixedDataModule
from datamodules.modalities.base import Modality
from datamodules.modalities.text import TextModality
from datamodules.progress_bar import track
from datamodules.split_dataset import SplitDataset
from datamodules.table import Column, take
from lightning_modules.hooks import TrainingStep
from lightning_modules.network import MultiTaskNetwork
from lightning_modules.predictor import Predictor
from lightning_modules.source_models import SourceModel
from lightning_modules.transfer.frozen_model import FrozenModel, differing_options
from pollinate.errors import PollinateError, UsageError
from pollinate.overrides import option_text
from pollinate.suggest import hint
from pollinate.version import VERSION

INPUTS_KEY = "transfer.inputs"
TeacherColumns = Mapping[
    str, Mapping[str, InputColumns]
]  # {data set: {modality: column, or columns}}


@dataclass(frozen=True)
class TeacherInput:
    """One modality of a data set's rows, as its source gives them.

    cells: N raw values of all rows of the data set.
    key: plain values that change when the cells do.
    own: whether the run reads the same cells itself.
    """

    cells: Column
    key: Any
    own: bool


def teacher_inputs(
    name: str, loaded: LoadedDataset, given: Mapping[str, InputColumns], trained: TeacherColumns
) -> dict[str, TeacherInput]:
    """Return {modality: what a teacher reads}, empty if the data set has nothing for it.

    In this order: the columns that a user gives; the run's own inputs; the columns that the teacher
    read in its own training, if the data set has them.

    Args:
        name: of the data set.
        loaded: the data set.
        given: {modality: column} of the user.
        trained: what the teacher read in its training.

    Raises:
        UsageError: a column is none, or several could be meant.
    """
    modalities = dict.fromkeys(m for columns in trained.values() for m in columns)
    found = {}
    for modality in modalities:
        columns = given.get(modality) or None
        if columns is None and modality in loaded.inputs:
            found[modality] = TeacherInput(loaded.inputs[modality], loaded.keys.get(modality), True)
            continue
        if columns is None:
            columns = column_of_training(name, loaded, modality, trained)
        if columns is not None:
            require_columns(name, loaded, modality, columns)
            cells = input_cells({modality: columns}, loaded.table)[modality]
            key = input_key(modality, columns, cells, loaded.table)
            found[modality] = TeacherInput(cells, key, False)
    return found


def column_of_training(
    name: str, loaded: LoadedDataset, modality: str, trained: TeacherColumns
) -> InputColumns | None:
    """Return the column of a modality in a teacher's training that the data set has, too."""
    forms: list[InputColumns] = []
    for columns in trained.values():
        form = columns.get(modality)
        there = form is not None and all(c in loaded.table.names for c in columns_named(form))
        if form is not None and there and form not in forms:
            forms.append(form)
    if len(forms) > 1:
        texts = " and ".join("+".join(columns_named(form)) for form in forms)
        raise UsageError(
            f"the data set {name} has several columns that a teacher reads as {modality}, {texts}; "
            f"choose one: {option_text(INPUTS_KEY, {name: {modality: columns_named(forms[0])[0]}})}"
        )
    return forms[0] if forms else None


def require_columns(name: str, loaded: LoadedDataset, modality: str, columns: InputColumns) -> None:
    """Check that a data set has columns."""
    for column in columns_named(columns):
        if column not in loaded.table.columns:
            known = hint(column, loaded.table.names, "columns")
            raise UsageError(
                f"{INPUTS_KEY}.{name}.{modality} names the column {column!r}, which the data set "
                f"hasn't{known}"
            )


def require_inputs_are_read(
    given: TeacherColumns, data: MixedDataModule, readable: Mapping[str, set[str]]
) -> None:
    """Check the columns that a user gives to teachers.

    Args:
        given: those.
        data: this run's.
        readable: {data set: modalities that its teachers read}.

    Raises:
        UsageError: a data set isn't taught, or no teacher of it reads a modality.
    """
    for problem in input_problems(given, data, readable):
        raise UsageError(problem)


def input_problems(
    given: TeacherColumns, data: MixedDataModule, readable: Mapping[str, set[str]]
) -> Iterator[str]:
    """Yield what is wrong with the columns that a user gives."""
    for name, columns in given.items():
        if name not in data.datasets:
            known_names = hint(name, data.datasets, "data sets")
            yield f"{INPUTS_KEY} names the data set {name!r}{known_names}"
        for modality in columns:
            known = readable.get(name, set())
            if modality not in known:
                yield (
                    f"{INPUTS_KEY}.{name} gives {modality}, which no teacher of its tasks reads"
                    f"{hint(modality, sorted(known), 'they read')}"
                )


CACHE_KIND, CACHE_FORMAT = "outputs", 1  # FORMAT is raised when older entries can't be read
WINDOW = 512  # rows whose raw cells are in memory
BATCH_SIZE = 64  # rows that go through the teacher at a time, at most
HAS, UNREADABLE = "has", "unreadable"


@dataclass
class OutputPass:
    """One pass of a teacher over rows.

    predictor: the teacher.
    tasks: of the teacher.
    columns: {modality: raw cells of all rows of the data set}.
    rows: (N,) those that are wanted.
    what: is computed, for people.
    """

    predictor: Predictor
    tasks: Sequence[str]
    columns: Mapping[str, Column]
    rows: np.ndarray
    what: str

    def write(self, folder: Path) -> None:
        """Fill a folder with {task: (N, ...)}, and which rows the task has an output for.

        Raises:
            PollinateError: no row has what the teacher reads.
        """
        arrays, count = FileArrays(folder), len(self.rows)
        has = {task: arrays.create(f"{HAS}.{task}", (count,), bool) for task in self.tasks}
        tables: dict[str, np.ndarray] = {}
        errors: dict[int, str] = {}
        starts = range(0, count, WINDOW)
        for start in track(starts, self.what, len(starts)):
            for places, outputs in self._window(start, errors):
                for task, values in outputs.items():
                    rows = values.float().cpu().numpy()
                    if task not in tables:
                        tables[task] = arrays.create(task, (count, *rows.shape[1:]), np.float32)
                    tables[task][places], has[task][places] = rows, True
        self._require_outputs(tables, errors)
        arrays.put(UNREADABLE, {str(row): error for row, error in errors.items()})

    def _window(
        self, start: int, errors: dict[int, str]
    ) -> Iterator[tuple[np.ndarray, dict[str, Tensor]]]:
        """Yield (places among the rows, {task: outputs}) of some rows."""
        chosen = self.rows[start : start + WINDOW]
        columns = {name: list(take(cells, chosen)) for name, cells in self.columns.items()}
        found: dict[int, str] = {}
        for rows, outputs in self.predictor.outputs(columns, self.tasks, BATCH_SIZE, found):
            yield start + np.array(rows), outputs
        errors |= {start + row: error for row, error in found.items()}

    def _require_outputs(self, tables: Mapping[str, np.ndarray], errors: Mapping[int, str]) -> None:
        for task in self.tasks:
            if task not in tables:
                why = next(iter(errors.values()), "they are empty")
                raise PollinateError(
                    f"{self.what}: no training row has what the task {task} reads "
                    f"({', '.join(self.columns)}): {why}; check transfer.inputs"
                )


class OutputTable:
    """A teacher's outputs by row.

    Args:
        folder: that a ``OutputPass`` filled.
    """

    def __init__(self, folder: Path) -> None:
        self.arrays = FileArrays(folder)
        self.tables: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def rows(self, task: str, index: Tensor) -> tuple[Tensor, Tensor]:
        """Return a task's outputs (n, ...) for rows of the split, and which have some, (n,) bool.

        Args:
            task: of the teacher.
            index: (n,) the rows' numbers in their split.
        """
        table, has = self._table(task)
        chosen = index.cpu().numpy()
        return torch.from_numpy(table[chosen]), torch.from_numpy(has[chosen])

    def complete(self, task: str) -> bool:
        """Say whether all rows have an output."""
        return bool(self._table(task)[1].all())

    @property
    def unreadable(self) -> dict[int, str]:
        """{place of the row: why the teacher can't read it}."""
        return {int(row): error for row, error in self.arrays.value(UNREADABLE).items()}

    def _table(self, task: str) -> tuple[np.ndarray, np.ndarray]:
        if task not in self.tables:
            self.tables[task] = self.arrays.get(task), self.arrays.get(f"{HAS}.{task}")
        return self.tables[task]


def cached_outputs(
    cache: Cache, digest: str, keys: Mapping[str, Any], one: OutputPass, say: Callable[[str], None]
) -> OutputTable:
    """Return a teacher's outputs, computed now if they aren't kept.

    Args:
        cache: where they are kept.
        digest: of the teacher's file, its preprocessing among it.
        keys: {modality: what its cells depend on}.
        one: the pass that computes them.
        say: tells the user.

    Raises:
        PollinateError: they can't be computed, or the disk is full.
    """

    def make(folder: Path) -> None:
        say(f"computing {one.what}, once")
        one.write(folder)

    rows = hashlib.sha256(np.ascontiguousarray(one.rows, np.int64).tobytes()).hexdigest()
    key = [CACHE_FORMAT, VERSION, torch.__version__, digest, dict(keys), sorted(one.tasks), rows]
    return OutputTable(cache.get(CACHE_KIND, key, make, say))


def can_run_online(
    predictor: Predictor,
    tasks: Sequence[str],
    modalities: Collection[str],
    here: Mapping[str, Modality],
) -> bool:
    """Say whether a teacher can take a run's rows as the run prepares them.

    One of several networks doesn't: it would take the time of them all in every step.

    Args:
        predictor: the teacher.
        tasks: of the teacher, those wanted.
        modalities: of the rows.
        here: {modality: how the run prepares raw values}.
    """
    same = isinstance(predictor.network, MultiTaskNetwork) and all(
        not differing_options(here[m].options(), predictor.modalities[m].options())
        and counts_terms(here[m]) >= counts_terms(predictor.modalities[m])
        for m in modalities
    )
    routes, inputs = predictor.network.routes, predictor.inputs
    known = [any(set(inputs[d]) == set(modalities) for d in routes[task]) for task in tasks]
    return same and all(known)


def counts_terms(modality: Modality) -> bool:
    """Say whether rows of a modality have terms, which answers of a wide path depend on."""
    return isinstance(modality, TextModality) and modality.wide


class OnlineTeacher:
    """A teacher's outputs for a step's rows of one data set.

    Args:
        teacher: prepares rows as this run does.
        dataset: of this run.
        modalities: of the rows, those that the teacher reads.
        tasks: of the teacher.
    """

    def __init__(
        self, teacher: FrozenModel, dataset: str, modalities: Collection[str], tasks: Sequence[str]
    ) -> None:
        self.teacher = teacher
        self.dataset = dataset
        self.modalities = list(modalities)
        self.routes = dict.fromkeys(tasks, (dataset,))
        self._last: tuple[Batch, Mapping[str, Tensor]] | None = None  # several tasks ask for one

    def rows(self, task: str, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return a task's outputs (n, ...) for rows, and which have some, (n,) bool."""
        if self._last is None or self._last[0] is not batch:
            own = select_modalities(batch, self.modalities)
            self._last = batch, self.teacher.predict({self.dataset: own}, self.routes).outputs
        every = torch.ones_like(batch.index, dtype=torch.bool)
        has = torch.stack([batch.has.get(m, every) for m in self.modalities]).any(dim=0)
        return self._last[1][task], has


def select_modalities(batch: Batch, modalities: Sequence[str]) -> Batch:
    """Return a batch with some of its modalities, and without labels."""
    has = {name: rows for name, rows in batch.has.items() if name in modalities}
    terms = {name: rows for name, rows in batch.terms.items() if name in modalities}
    return Batch({m: batch.inputs[m] for m in modalities}, {}, {}, batch.index, has, terms=terms)


class TeacherModel(ABC):
    """Another model that teaches on the rows of one data set.

    Args:
        source: the teacher.
        dataset: of this run.
        read: {modality: what it reads of the data set's rows}.
    """

    def __init__(self, source: SourceModel, dataset: str, read: Mapping[str, TeacherInput]) -> None:
        self.name = source.name
        self.source: SourceModel | None = source  # until it is known that it isn't needed any more
        self.dataset = dataset
        self.read = dict(read)

    @abstractmethod
    def require_possible(self, data: MixedDataModule) -> None:
        """Check that rows that are streamed can be shown to the teacher."""

    @abstractmethod
    def prepare(
        self, data: MixedDataModule, device: torch.device, say: Callable[[str], None]
    ) -> None:
        """Compute once what can be, and forget the model then."""


class DatasetTeacher(TeacherModel):
    """Looks its outputs up where rows are the same in every epoch, else runs on each step's rows.

    Args:
        source, dataset, read: as for ``TeacherModel``.
    """

    def __init__(self, source: SourceModel, dataset: str, read: Mapping[str, TeacherInput]) -> None:
        super().__init__(source, dataset, read)
        self.tasks: list[str] = []  # of the teacher, those wanted here
        self.table: OutputTable | None = None
        self.online: OnlineTeacher | None = None
        self.all_rows_complete = False  # whether every row has what a live teacher reads

    def add_task(self, task: str) -> None:
        """Ask for the outputs of one of its tasks."""
        if task not in self.tasks:
            self.tasks.append(task)

    def require_possible(self, data: MixedDataModule) -> None:
        """Check that rows that are streamed can be shown to the teacher as they come."""
        if data.loaded[self.dataset].table.streamed and not self._can_run_online(data):
            raise UsageError(
                f"the rows of {self.dataset} are streamed, so {self.name} must be one network that "
                "reads them as the run prepares them, and it isn't, or prepares them otherwise; "
                "leave streaming out: "
                f"data.datasets.{self.dataset}.streaming=false"
            )

    def prepare(
        self, data: MixedDataModule, device: torch.device, say: Callable[[str], None]
    ) -> None:
        """Compute its outputs once if it can, and forget the model then."""
        part, loaded = data.parts["train"][self.dataset], data.loaded[self.dataset]
        changing = ", ".join(key for modality in self.read for key in random_keys(data, modality))
        rows = f"the rows of {self.dataset}"
        if part.cached.keys() & self.read.keys() or not self._can_run_online(data):
            if changing:
                say(f"note: {self.name} sees {rows} before {changing} changes them")
        elif changing or loaded.table.streamed:
            why = f"{changing} changes them" if changing else "they are streamed"
            say(f"note: {self.name} sees {rows} in every step, because {why}")
            self._run_online(part)
            return
        self._fill_table(data, part, device, say)

    def _run_online(self, part: SplitDataset) -> None:
        assert self.source is not None
        self.online = OnlineTeacher(FrozenModel(self.source), self.dataset, self.read, self.tasks)
        part.gives_terms = True  # as far as they are counted
        self.all_rows_complete = bool(all(part.stores[m].has[part.rows].all() for m in self.read))

    def _fill_table(
        self,
        data: MixedDataModule,
        part: SplitDataset,
        device: torch.device,
        say: Callable[[str], None],
    ) -> None:
        assert self.source is not None
        predictor = self.source.predictor()
        predictor.network.to(device)
        columns = {modality: one.cells for modality, one in self.read.items()}
        what = f"outputs of {self.name} for {part.size:,} rows of {self.dataset}"
        one = OutputPass(predictor, self.tasks, columns, part.rows, what)
        keys = {modality: one.key for modality, one in self.read.items()}
        self.table = cached_outputs(data.policy.cache, self.source.digest, keys, one, say)
        self._report_unreadable(data, say)
        self.source = None  # a model may be large

    def outputs(self, task: str, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return outputs (n, ...) for rows of the data set, and which have some, (n,) bool."""
        if self.table is not None:
            return self.table.rows(task, batch.index)
        assert self.online is not None
        return self.online.rows(task, batch)

    def complete(self, task: str) -> bool:
        """Say whether every training row has an output."""
        return self.all_rows_complete if self.table is None else self.table.complete(task)

    def _can_run_online(self, data: MixedDataModule) -> bool:
        assert self.source is not None
        own = all(one.own for one in self.read.values())
        return own and can_run_online(
            self.source.predictor(), self.tasks, self.read, data.modalities
        )

    def _report_unreadable(self, data: MixedDataModule, say: Callable[[str], None]) -> None:
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


class TeacherOutputs(ABC):
    """Outputs for a step's rows of one data set, in the order of the classes here.

    Attributes:
        needs: tasks of this run whose outputs it takes.
    """

    needs: tuple[str, ...] = ()

    @abstractmethod
    def outputs(self, step: TrainingStep) -> tuple[Tensor, Tensor]:
        """Return outputs (n, ...) of this process' rows, and which have some, (n,) bool."""

    @abstractmethod
    def complete(self) -> bool:
        """Say whether every training row has an output; all processes must know the same."""


class ModelOutputs(TeacherOutputs):
    """Another model's.

    Args:
        model: at the data set.
        task: of the model.
        places: where the classes here are among the model's; None: in the same places.
    """

    def __init__(self, model: DatasetTeacher, task: str, places: Sequence[int] | None) -> None:
        self.model = model
        self.task = task
        self.places = None if places is None else list(places)
        model.add_task(task)

    def outputs(self, step: TrainingStep) -> tuple[Tensor, Tensor]:
        found, has = self.model.outputs(self.task, step.batch.batches[self.model.dataset])
        return reorder_classes(found, self.places), has

    def complete(self) -> bool:
        return self.model.complete(self.task)


class PeerOutputs(TeacherOutputs):
    """Those of another task of this run, as they are.

    Args:
        task: that teaches.
        dataset: whose rows.
        route: the task's data sets, in order.
        places: as for ``ModelOutputs``.
    """

    def __init__(
        self, task: str, dataset: str, route: Sequence[str], places: Sequence[int] | None
    ) -> None:
        self.task = task
        self.needs = (task,)
        self.dataset = dataset
        self.route = tuple(route)
        self.places = None if places is None else list(places)

    def outputs(self, step: TrainingStep) -> tuple[Tensor, Tensor]:
        """Return the task's outputs, without a gradient."""
        rows = rows_by_dataset(step.batch, self.route)[self.dataset]
        found = step.outputs[self.task].detach()[rows]
        return reorder_classes(found, self.places), torch.ones(len(found), dtype=torch.bool)

    def complete(self) -> bool:
        return True


def reorder_classes(outputs: Tensor, places: Sequence[int] | None) -> Tensor:
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

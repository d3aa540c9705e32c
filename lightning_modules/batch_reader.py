"""Turns batches of any loader into ``MixedBatch`` and checks them against the model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, distributed

from datamodules.batch import (
    ONE_DATASET,
    Batch,
    MixedBatch,
    count_rows,
    describe,
    rows_of,
)
from lightning_modules.distributed import all_reduce_sum, is_distributed
from lightning_modules.tasks.base import Task
from lightning_modules.trunks.base import Routes
from pollinate.errors import UsageError
from pollinate.suggest import hint, listing

FORMS = (
    'a batch must be {data set: {"inputs": {modality: tensor}, "targets": {task: tensor}}}, the '
    "inner part alone for a single data set, or a MixedBatch, which a collate_fn that ends with "
    "MixedBatch.of(...) makes"
)


class BatchReader:
    """Reads what a loader yields.

    Args:
        tasks: {name: task}.
        routes: {task: data sets}.
        modalities: those that the model encodes.
    """

    def __init__(
        self, tasks: Mapping[str, Task], routes: Routes, modalities: Iterable[str]
    ) -> None:
        self.tasks = dict(tasks)
        self.routes = dict(routes)
        self.modalities = list(modalities)
        self.datasets = list(dict.fromkeys(name for names in routes.values() for name in names))
        self.on_trial = False  # whether someone else's first batch is under way
        self._proven = False  # whether it went through the model

    def read(
        self, given: Any, loader: str | None = None, dtype: torch.dtype | None = None
    ) -> MixedBatch:
        """Return a loader's batch, with a label mask for each task that reads its data sets.

        Args:
            given: a ``MixedBatch``; what ``MixedBatch.of`` takes; or what Lightning's
                ``CombinedLoader`` makes of such parts: a dictionary or list of them, None for one
                that is exhausted, or (batch, batch number, loader number).
            loader: name of the loader, if it has one: the data set of rows that don't say theirs.
            dtype: of the model's weights, of which targets that are numbers are, too.

        Raises:
            UsageError: it is something else, or doesn't fit the model.
        """
        if isinstance(given, MixedBatch) and given.is_checked:
            return given
        self.on_trial = not self._proven
        if isinstance(given, tuple) and len(given) == 3 and isinstance(given[1], int):
            given = given[0]
        batches: dict[str, Batch] = {}
        for name, rows in self._parts(given, loader or ONE_DATASET):
            dataset = self._dataset(name, rows)
            if dataset in batches:
                raise UsageError(
                    f"a batch must have the rows of a data set in one place, got {dataset} twice; "
                    "concatenate them"
                )
            batches[dataset] = rows
        precise = torch.promote_types(dtype or torch.float32, torch.float32)
        found = {name: self._checked(name, rows, precise) for name, rows in batches.items()}
        for task, names in self.routes.items():
            self._fill(task, [found[name] for name in names if name in found])
        return MixedBatch(found, *count_rows(found), counts_all_ranks=False)

    def add_up_counts(self, batch: MixedBatch) -> MixedBatch:
        """Return a batch with the counts of all processes' rows, which must all take part.

        Raises:
            UsageError: some processes have rows of a data set, and others haven't.
        """
        if is_distributed():
            here = [name in batch.batches for name in self.datasets]
            own = [batch.labelled.get(task, 0) for task in self.tasks]
            own += [batch.sizes.get(name, 0) for name in self.datasets]
            labelled, sizes, having = torch.split(
                all_reduce_sum(torch.tensor([*own, *here], dtype=torch.int64)),
                [len(self.tasks), len(self.datasets), len(self.datasets)],
            )
            processes = distributed.get_world_size()
            for name, count in zip(self.datasets, having.tolist(), strict=True):
                if 0 < count < processes:
                    raise UsageError(
                        "in a step all processes must have rows of the same data sets, got some of "
                        f"{name} in {count} of {processes}; let every process's loader yield all "
                        "data sets, a part of their rows each"
                    )
            batch.labelled = dict(zip(self.tasks, labelled.tolist(), strict=True))
            batch.sizes = dict(zip(self.datasets, sizes.tolist(), strict=True))
        batch.counts_all_ranks = True
        return batch

    def explained(self, batch: MixedBatch) -> AbstractContextManager[None]:
        """Inside, say which inputs the model was given, if it fails on someone else's first batch.

        Raises:
            UsageError: in place of an error of torch.
        """
        return self._trial(batch) if self.on_trial else nullcontext()

    @contextmanager
    def _trial(self, batch: MixedBatch) -> Iterator[None]:
        try:
            yield
        except (RuntimeError, ValueError, TypeError, LookupError, AttributeError) as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            given = [
                f"{name}: {modality} is {describe(rows)}"
                for name, one in batch.batches.items()
                for modality, rows in one.inputs.items()
            ]
            raise UsageError(
                f"the model can't take the loader's first batch: {' '.join(str(error).split())}. "
                f"It got {'; '.join(given)}; give each encoder what it was made for"
            ) from error
        self.on_trial, self._proven = False, True

    def _parts(self, given: Any, name: str) -> Iterator[tuple[str, Batch]]:
        """Yield (data set or ``ONE_DATASET``, rows)."""
        if given is None:
            return
        if isinstance(given, MixedBatch):
            for own, rows in given.batches.items():
                yield own or name, rows
        elif isinstance(given, Mapping) and is_rows(given):
            yield name, rows_of(name, given)
        elif isinstance(given, Mapping):
            for key, part in given.items():
                if not (part is None or isinstance(part, Mapping | MixedBatch)):
                    raise UsageError(
                        f"{FORMS}; got {describe(given)} with {describe(part)} in {key!r}"
                    )
                yield from self._parts(part, str(key))
        elif isinstance(given, list | tuple) and all(
            part is None or isinstance(part, Mapping | MixedBatch) for part in given
        ):
            for part in given:
                yield from self._parts(part, name)
        else:
            raise UsageError(f"{FORMS}; got {describe(given)}")

    def _dataset(self, name: str, rows: Batch) -> str:
        """Return the data set of rows, found out from their targets where they don't say it."""
        if name != ONE_DATASET:
            if name not in self.datasets:
                raise UsageError(
                    f"the batch has rows of {name!r}, which no task reads"
                    f"{hint(name, self.datasets, 'data sets')}"
                )
            return name
        known = [task for task in rows.targets if task in self.routes]
        fits = [one for one in self.datasets if all(one in self.routes[task] for task in known)]
        if len(fits) != 1:
            raise UsageError(
                "a batch of a model with several data sets must say whose rows it has, got rows "
                f"without a name that could be of {listing(fits or self.datasets)}; give "
                "{data set: rows}, or a dictionary of loaders"
            )
        return fits[0]

    def _checked(self, name: str, rows: Batch, precise: torch.dtype) -> Batch:
        """Return rows with targets of the types that the tasks take.

        Raises:
            UsageError: there is a task or modality that the model lacks, or a target is not what
                its task takes.
        """
        for modality in rows.inputs:
            if modality not in self.modalities:
                raise UsageError(
                    f"the batch's data set {name} has the modality {modality!r}, for which the "
                    f"model has no encoder{hint(modality, self.modalities, 'encoders')}"
                )
        own = [task for task, names in self.routes.items() if name in names]
        targets = {}
        for task, target in rows.targets.items():
            if task not in self.tasks:
                raise UsageError(
                    f"the batch's data set {name} has targets of {task!r}, which is no task of the "
                    f"model{hint(task, self.tasks, 'tasks')}"
                )
            if task not in own:
                raise UsageError(
                    f"the batch's data set {name} has targets of {task}, which reads "
                    f"{listing(self.routes[task])}; add {name} to the task's data sets, or leave "
                    "the targets out"
                )
            targets[task] = self._target(name, task, target, rows.present[task], precise)
        return replace(rows, targets=targets, present=dict(rows.present))

    def _target(
        self, name: str, task: str, target: Tensor, present: Tensor, precise: torch.dtype
    ) -> Tensor:
        form = self.tasks[task].target_form()
        if form is None:
            return target
        where = f"targets of {task} in the batch's data set {name}"
        sizes = tuple(target.shape[1:])
        fits = len(sizes) == len(form.shape) and all(
            wanted in (None, size) for wanted, size in zip(form.shape, sizes, strict=True)
        )
        if not fits or (form.whole and target.is_floating_point()):
            limit = f", C = {form.shape[0]}" if form.shape and form.shape[0] else ""
            raise UsageError(f"{where} must be {form.meaning}{limit}, got {describe(target)}")
        if target.device.type == "cpu" or self.on_trial:  # else every look would wait for a device
            given = target[present]
            largest = given.max().item() if given.numel() else 0
            if form.below is not None and largest >= form.below:
                raise UsageError(
                    f"{where} must be {form.meaning}, smaller than {form.below}, got {largest:g}; "
                    "check the task's classes"
                )
        return target.long() if form.whole else target.to(precise)

    def _fill(self, task: str, parts: Sequence[Batch]) -> None:
        """Give rows that say nothing of a task a placeholder, and no label."""
        form = self.tasks[task].target_form()
        known = [part.targets[task] for part in parts if task in part.targets]
        sizes = [1 if size is None else size for size in form.shape] if form else []
        like = (
            known[0]
            if known
            else torch.zeros(0, *sizes, dtype=torch.int64 if form and form.whole else torch.float32)
        )
        for part in parts:
            if task in part.targets:
                continue
            count, device = len(part.index), part.index.device
            part.targets[task] = like.new_zeros((count, *like.shape[1:]), device=device)
            pairs = self.tasks[task].modalities  # rows that have these are labelled by that
            there = bool(pairs) and all(one in part.modalities for one in pairs)
            present = torch.full((count,), there, device=device)
            for one in pairs:
                present = present & part.has.get(one, present)
            part.present[task] = present


def is_rows(given: Mapping[Any, Any]) -> bool:
    """Say whether a mapping is the rows of one data set, not {data set: rows}."""
    return "inputs" in given or "targets" in given

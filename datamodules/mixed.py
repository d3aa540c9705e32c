"""The data module: several data sets, one mixed batch a step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor

from datamodules.cache import Cache, default_cache
from datamodules.columns import Column
from datamodules.dataset import MapTargets, Part
from datamodules.duplicates import conflicts, leaks
from datamodules.inputs import columns_named
from datamodules.kept import KeptRows
from datamodules.loader import EvaluationLoader, StepLoader
from datamodules.loading import DatasetSpec, Loaded, TaskSpec, load_dataset
from datamodules.maps.loading import labelled, load_maps
from datamodules.modalities.base import Modality, Prepared, Store
from datamodules.plan import Plan
from datamodules.samplers.base import Sampler
from datamodules.splits import SPLITS
from datamodules.steps import EvaluationSteps, Share, TrainingSteps
from datamodules.streaming.store import StreamedStore
from datamodules.thinning import generator, thinned
from pipeline.errors import PollinateError

SHOWN = 5  # labels or rows that a message lists


@dataclass
class LoaderOptions:
    """workers: processes that prepare batches, >= 0; evaluation_batch_size: rows, >= 1."""

    workers: int = 0
    pin_memory: bool = False
    evaluation_batch_size: int = 256


@dataclass
class Policy:
    """What to do about faults of the data.

    skip_bad_rows: leave rows out that can't be read; else they are an error.
    strict: rows of valid or test that stand in an earlier split, too, are an error.
    cache: where results are kept that take long to compute.
    """

    skip_bad_rows: bool = False
    strict: bool = False
    cache: Cache = field(default_factory=lambda: Cache(default_cache()))


class MixedDataModule(LightningDataModule):
    """Loads, splits and encodes the data sets; hands out mixed training steps.

    Args:
        datasets: {name: its source, inputs and split}.
        tasks: {name: the task, its data sets and target column}.
        modalities: {modality: how raw values become tensors}.
        sampler: how many rows of each data set a step has.
        seed: of order and augmentation.
        split_seed: of the splits.
        options: of the loaders.
        learnt: ``learnt_state()`` of the run to go on with; None: learn from the data.
        policy: what to do about faults of the data.
        labels: share of each task's training labels that is seen, in (0, 1]. What labels there are
            is learnt from all of them.

    Attributes:
        notes: what a user should know of the data, found by ``setup``.
    """

    def __init__(
        self,
        datasets: Mapping[str, DatasetSpec],
        tasks: Mapping[str, TaskSpec],
        modalities: Mapping[str, Modality],
        sampler: Sampler,
        seed: int,
        split_seed: int,
        options: LoaderOptions,
        learnt: Mapping[str, Any] | None = None,
        policy: Policy | None = None,
        labels: float = 1.0,
    ) -> None:
        super().__init__()
        self.datasets = dict(datasets)
        self.tasks = dict(tasks)
        self.modalities = dict(modalities)
        self.sampler = sampler
        self.seed = seed
        self.split_seed = split_seed
        self.options = options
        self.learnt = learnt
        self.policy = policy or Policy()
        self.labels = labels
        self.notes: list[str] = []
        self.parts: dict[str, dict[str, Part]] = {}  # {split: {data set: part}}
        self.loaded: dict[str, Loaded] = {}
        self.position = 0
        self.history: list[dict[str, int]] = []  # counts of the epochs before ``position``
        self.plan: Plan | None = None
        self._loader: StepLoader | None = None
        self.divided = (
            True  # whether the processes divide a training step's rows, or each takes all
        )
        sampler.bind({name: list(self._tasks_of(name)) for name in self.datasets})

    def setup(self, stage: str | None = None) -> None:
        """Load everything once; later calls do nothing.

        Raises:
            PollinateError: a file or column is missing, rows can't be used, a task has no rows in
                a split, or a split has labels that the training split lacks.
        """
        if self.parts:
            return
        self.loaded = {name: self.load(name) for name in self.datasets}
        self._refuse_bad_rows()
        self.learn_modalities()
        stores = {name: self.prepare(name) for name in self.loaded}
        self._refuse_bad_rows()
        for name, loaded in self.loaded.items():
            self._leave_bad_rows_out(loaded)
            self._look_for_duplicates(name, loaded)
        self._learn_tasks()
        parts = {
            split: {name: self._part(name, split, stores[name]) for name in self.datasets}
            for split in SPLITS
        }
        for name, task in self.tasks.items():
            require_rows(name, task, parts)
            self.notes += unlabelled(name, task, parts)
        self.parts = parts
        for loaded in self.loaded.values():
            loaded.table.release()  # training reads what was prepared

    def use_kept(self, modality: str, kept: Mapping[str, KeptRows]) -> None:
        """Give features that were kept in place of a modality's inputs, in all splits.

        Args:
            modality: whose rows.
            kept: {data set: features of all its rows}.
        """
        for parts in self.parts.values():
            for name, rows in kept.items():
                parts[name].kept = {**parts[name].kept, modality: rows}

    def load(self, name: str) -> Loaded:
        """Read and split one data set.

        Raises:
            PollinateError: it can't be read.
        """
        cache, tasks = self.policy.cache, self._tasks_of(name)
        loaded = load_dataset(name, self.datasets[name], tasks, self.split_seed, cache)
        load_maps(loaded, tasks, self.datasets[name], self.modalities, cache)
        return loaded

    @property
    def sizes(self) -> dict[str, int]:
        """Training rows by data set."""
        return {name: part.size for name, part in self.parts["train"].items()}

    @property
    def epoch_steps(self) -> int:
        """Steps of one epoch."""
        return self.sampler.epoch_steps(self.sizes)

    def train_dataloader(self) -> StepLoader:
        """Return the mixed training steps, from where the run stands."""
        self.plan = Plan(self.sampler, self.sizes, self.history)
        share = self._share() if self.divided else Share()
        steps = TrainingSteps(self.parts["train"], self.plan, self.seed, share)
        self._loader = StepLoader(steps, self.plan, self.position, **self._loader_options())
        return self._loader

    def passes(self) -> dict[str, float]:
        """Return how often each data set has been gone through in training."""
        if self.plan is None or self._loader is None:
            return {}
        step = self._loader.position
        return {n: self.plan.stretch(n, step)[0] / size for n, size in self.plan.sizes.items()}

    def val_dataloader(self) -> EvaluationLoader:
        """Return every validation row once."""
        return self.evaluation_loader("valid")

    def test_dataloader(self) -> EvaluationLoader:
        """Return every test row once."""
        return self.evaluation_loader("test")

    def evaluation_loader(self, split: str) -> EvaluationLoader:
        """Return every row of a split once."""
        size = self.options.evaluation_batch_size
        steps = EvaluationSteps(self.parts[split], size, self._share())
        return EvaluationLoader(steps, len(steps), **self._loader_options())

    def state_dict(self) -> dict[str, Any]:
        """Return the next step's number, the epochs' counts, and what the sampler observed."""
        return {
            "position": self._loader.position if self._loader else self.position,
            "history": self.plan.history if self.plan else self.history,
            "sampler": self.sampler.state_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue at the next step."""
        self.position = state_dict["position"]
        self.history = state_dict["history"]
        self.sampler.load_state_dict(state_dict["sampler"])
        if self._loader is not None and self.plan is not None:
            # a strategy that shards restores only after the optimizer asked for the run's length
            self._loader.position = self.position
            self.plan.history = [dict(counts) for counts in self.history]

    def learnt_state(self) -> dict[str, Any]:
        """Return what was learnt from the training split, as plain values."""
        return {
            "tasks": {name: spec.task.state_dict() for name, spec in self.tasks.items()},
            "modalities": {name: item.state_dict() for name, item in self.modalities.items()},
            "digests": {name: loaded.digest for name, loaded in self.loaded.items()},
            "labelled": self.labelled_rows(),
        }

    def labelled_rows(self) -> dict[str, int]:
        """Return {task: training rows with a label}."""
        parts = self.parts["train"]
        return {
            name: sum(int(parts[dataset].present[name].sum()) for dataset in spec.datasets)
            for name, spec in self.tasks.items()
        }

    def _share(self) -> Share:
        trainer = self.trainer
        return Share(trainer.global_rank, trainer.world_size) if trainer else Share()

    def _loader_options(self) -> dict[str, Any]:
        return {"num_workers": self.options.workers, "pin_memory": self.options.pin_memory}

    def _tasks_of(self, dataset: str) -> dict[str, TaskSpec]:
        return {name: spec for name, spec in self.tasks.items() if dataset in spec.datasets}

    def learn_modalities(self) -> None:
        """Learn the tokenizer from the training rows, or take the given one."""
        if self.learnt is not None:
            self._check_digests(self.learnt["digests"])
        for name, modality in self.modalities.items():
            if self.learnt is not None:
                modality.load_state_dict(self.learnt["modalities"][name])
            else:
                own = [d.input(name, "train") for d in self.loaded.values() if name in d.inputs]
                modality.fit(own)

    def _learn_tasks(self) -> None:
        """Learn vocabularies and scales from the training rows, or take the given ones."""
        for name, spec in self.tasks.items():
            if self.learnt is not None:
                spec.task.load_state_dict(self.learnt["tasks"][name])
            elif spec.known is not None:
                spec.task.load_state_dict(dict(spec.known))
            else:
                self.learn_task(name, spec)

    def learn_task(self, name: str, spec: TaskSpec) -> None:
        """Learn one task's vocabulary and scale from the training rows.

        Raises:
            PollinateError: there are none, or they don't suffice.
        """
        columns = [self.loaded[dataset].label(name, "train") for dataset in spec.datasets]
        if not any(map(len, columns)):
            raise PollinateError(
                f"task {name} has no training rows (data set {', '.join(spec.datasets)}); "
                "check its split"
            )
        try:
            spec.task.learn(value for column in columns for value in column)
        except PollinateError as error:
            raise PollinateError(f"task {name}: {error}") from error

    def _check_digests(self, expected: Mapping[str, str]) -> None:
        # models that were merged had other tasks: they agree on the table, not on tasks' maps
        changed = [
            name
            for name, data in self.loaded.items()
            if expected.get(name) not in (data.digest, data.table.digest)
        ]
        if changed:
            raise PollinateError(
                f"the data of {', '.join(changed)} changed since the run was started, so it can't "
                "be resumed or measured exactly; restore the data or start a new run"
            )

    def prepare(self, name: str) -> dict[str, Store]:
        """Prepare all inputs of a data set that was loaded, and note the rows where that fails."""
        loaded = self.loaded[name]
        stores: dict[str, Store] = {}
        for modality, cells in loaded.inputs.items():
            given = columns_named(self.datasets[name].inputs[modality])
            if loaded.table.streamed:
                has = np.any([loaded.table.streamed[column] for column in given], axis=0)
                kind = self.modalities[modality]
                stores[modality] = StreamedStore(kind, cells, has, loaded.table)
                continue
            prepared = self._prepared(modality, cells, loaded)
            loaded.bad.add("+".join(given), prepared.errors)
            stores[modality] = prepared.store
            note = prepared.store.note()
            self.notes += [] if note is None else [f"{name}: {note}"]
        empty = ~np.any([store.has for store in stores.values()], axis=0)
        wrong = "all inputs of the row are empty" if len(stores) > 1 else "the input is empty"
        loaded.bad.add("", dict.fromkeys(np.flatnonzero(empty).tolist(), wrong))
        return stores

    def _prepared(self, modality: str, cells: Column, loaded: Loaded) -> Prepared:
        """Prepare a column; what comes from files is kept on disk for the next time."""
        if not loaded.table.mapped:
            return self.modalities[modality].prepare(cells)
        cache, key = self.policy.cache, loaded.keys[modality]
        return self.modalities[modality].prepare_cached(cells, cache, key)

    def _refuse_bad_rows(self) -> None:
        for loaded in self.loaded.values() if not self.policy.skip_bad_rows else ():
            loaded.bad.refuse()

    def _leave_bad_rows_out(self, loaded: Loaded) -> None:
        loaded.rows = {split: loaded.bad.without(rows) for split, rows in loaded.rows.items()}
        if loaded.bad.found:
            self.notes.append(loaded.bad.note())

    def _look_for_duplicates(self, name: str, loaded: Loaded) -> None:
        """Note rows that leak from one split into another, and rows with several labels."""
        if loaded.hashes is None:
            return
        leaked = leaks(loaded.hashes, loaded.rows)
        for split in ("valid", "test"):
            found = [leak for leak in leaked if leak.split == split]
            if found:
                place = loaded.table.place
                some = "; ".join(f"{place(x.row)} = {place(x.twin)}" for x in found[:SHOWN])
                text = f"{name}: {len(found):,} rows of {split} stand in an earlier split, too"
                if self.policy.strict:
                    raise PollinateError(
                        f"data set {text} ({some}); remove them, or accept them: data.strict=false"
                    )
                self.notes.append(f"{text} ({found[0].twin_split}), so its scores flatter")
        for task in self._tasks_of(name):
            groups = conflicts(loaded.hashes, loaded.targets[task])
            if groups:
                rows = sum(map(len, groups))
                self.notes.append(
                    f"{name}: {rows:,} rows with {len(groups):,} inputs have several labels of "
                    f"{task}, one input each"
                )

    def _part(self, name: str, split: str, stores: Mapping[str, Store]) -> Part:
        loaded = self.loaded[name]
        targets, present = {}, {}
        maps: dict[str, MapTargets] = {}
        for task, spec in self._tasks_of(name).items():
            form, values = spec.task.maps, loaded.label(task, split)
            if form is None:
                encoded = spec.task.encode(values)
                targets[task], present[task] = encoded.targets, encoded.present
                unseen = encoded.unseen
            else:
                maps[task] = MapTargets(loaded.maps[task], form.modality, spec.task.encode)
                present[task], unseen = labelled(spec.task, values)
            if unseen:
                self._meet_unseen(task, spec, name, split, unseen)
        if split == "train" and self.labels < 1:
            for task in present:
                self._hide_labels(task, name, targets.get(task), present)
        streamed = bool(loaded.table.streamed)
        return Part(name, stores, loaded.rows[split], targets, present, streamed, maps)

    def _hide_labels(
        self, task: str, name: str, targets: Tensor | None, present: dict[str, Tensor]
    ) -> None:
        """Leave a task its share of a data set's training labels."""
        kind = self.tasks[task].task
        classes = None if targets is None else kind.class_numbers(targets)
        numbers = np.zeros(len(present[task]), np.int64) if classes is None else classes.numpy()
        draw = generator(self.seed, name, task)
        seen = thinned(present[task].numpy(), numbers, self.labels, draw)
        present[task] = torch.from_numpy(seen)

    def _meet_unseen(
        self, task: str, spec: TaskSpec, name: str, split: str, unseen: Mapping[int, str]
    ) -> None:
        """Refuse labels that the training split lacks, or note that their rows don't count."""
        labels = sorted(set(unseen.values()))
        some = f"{', '.join(labels[:20])}{' ...' if len(labels) > 20 else ''}"
        if not spec.drop_unseen:
            first = self.loaded[name].rows[split][next(iter(unseen))]
            raise PollinateError(
                f"task {task}: data set {name} has labels in {split} that the training split "
                f"lacks: {some} (first in {self.loaded[name].table.place(int(first))}); add "
                f"training rows of them, or don't count them: data.tasks.{task}.unseen=drop"
            )
        self.notes.append(
            f"{name}: {len(unseen):,} labels of {task} in {split} don't count, the training split "
            f"lacks them: {some}"
        )


def require_rows(name: str, spec: TaskSpec, parts: Mapping[str, Mapping[str, Part]]) -> None:
    """Check that a task has rows in every split.

    Raises:
        PollinateError: it hasn't.
    """
    for split, found in parts.items():
        if not any(found[dataset].size for dataset in spec.datasets):
            raise PollinateError(
                f"task {name} has no {split} rows (data set {', '.join(spec.datasets)}); give it "
                f"some, for example drawn from the training rows: split: {{..., {split}: 0.1}}"
            )


def unlabelled(name: str, spec: TaskSpec, parts: Mapping[str, Mapping[str, Part]]) -> Iterator[str]:
    """Yield a note for each split whose rows have no label of the task, if it has any at all."""
    if set(spec.unlabelled) == set(spec.datasets):
        return
    for split, found in parts.items():
        if not any(found[dataset].present[name].any() for dataset in spec.datasets):
            yield f"task {name} has no labels in {split}, so it has no score there"

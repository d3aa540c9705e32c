"""The data module: several data sets, one mixed batch a step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from lightning.pytorch import LightningDataModule

from datamodules.columns import Column, Columns, take
from datamodules.dataset import Part
from datamodules.loader import EvaluationLoader, StepLoader
from datamodules.modalities.base import Modality, Store
from datamodules.samplers.base import Sampler
from datamodules.sources.base import Source
from datamodules.splits import SPLITS, split_rows
from datamodules.steps import EvaluationSteps, Share, TrainingSteps
from lightning_modules.tasks.base import Task
from pipeline.errors import PollinateError


@dataclass
class DatasetSpec:
    """source: where rows come from; inputs: {modality: column}; split: see ``split_rows``."""

    source: Source
    inputs: Mapping[str, str]
    split: Mapping[str, Any]


@dataclass
class TaskSpec:
    """task: what to predict; datasets: from the rows of which data sets; target: its column."""

    task: Task
    datasets: Sequence[str]
    target: str


@dataclass
class LoaderOptions:
    """workers: processes that prepare batches, >= 0; evaluation_batch_size: rows, >= 1."""

    workers: int = 0
    pin_memory: bool = False
    evaluation_batch_size: int = 256


@dataclass
class Loaded:
    """A data set in memory: columns, and the rows of each split."""

    columns: Columns
    rows: Mapping[str, np.ndarray]
    digest: str = field(default="")

    def column(self, name: str, split: str) -> Column:
        """Return one column's values in one split."""
        return take(self.columns[name], self.rows[split])


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
        learnt: ``state_dict()["learnt"]`` of the run to go on with; None: learn from the data.
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
        self.parts: dict[str, dict[str, Part]] = {}  # {split: {data set: part}}
        self.loaded: dict[str, Loaded] = {}
        self.position = 0
        self._loader: StepLoader | None = None

    def setup(self, stage: str | None = None) -> None:
        """Load everything once; later calls do nothing.

        Raises:
            PollinateError: a column is missing, a task has no training rows, or a split has
                labels that the training split lacks.
        """
        if self.parts:
            return
        self.loaded = {name: self._load(name) for name in self.datasets}
        self._learn()
        parts: dict[str, dict[str, Part]] = {split: {} for split in SPLITS}
        for name, loaded in self.loaded.items():
            stores = {
                modality: self.modalities[modality].prepare(loaded.columns[column]).store
                for modality, column in self.datasets[name].inputs.items()
            }
            for split in SPLITS:
                parts[split][name] = self._part(name, split, loaded, stores)
        self.parts = parts

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
        counts = self.sampler.counts(self.sizes)
        steps = TrainingSteps(self.parts["train"], counts, self.seed, self._share())
        self._loader = StepLoader(steps, self.epoch_steps, self.position, **self._loader_options())
        return self._loader

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
        """Return the next step's number."""
        return {"position": self._loader.position if self._loader else self.position}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue at the next step."""
        self.position = state_dict["position"]

    def learnt_state(self) -> dict[str, Any]:
        """Return what was learnt from the training split, as plain values."""
        return {
            "tasks": {name: spec.task.state_dict() for name, spec in self.tasks.items()},
            "modalities": {name: item.state_dict() for name, item in self.modalities.items()},
            "digests": {name: loaded.digest for name, loaded in self.loaded.items()},
        }

    def _share(self) -> Share:
        trainer = self.trainer
        return Share(trainer.global_rank, trainer.world_size) if trainer else Share()

    def _loader_options(self) -> dict[str, Any]:
        return {"num_workers": self.options.workers, "pin_memory": self.options.pin_memory}

    def _load(self, name: str) -> Loaded:
        """Load one data set and split it, stratified by its first task's target."""
        spec = self.datasets[name]
        table = spec.source.load()
        columns = table.columns
        wanted = {f"inputs.{modality}": column for modality, column in spec.inputs.items()}
        wanted |= {f"target of task {t}": s.target for t, s in self._tasks_of(name).items()}
        for use, column in wanted.items():
            if column not in columns:
                raise PollinateError(
                    f"data.datasets.{name}: {use} names the column {column!r}, "
                    f"which is not in the data; it has {', '.join(columns)}"
                )
        targets = [columns[spec.target] for spec in self._tasks_of(name).values()]
        strata = targets[0] if targets else [""] * len(table)
        rows = split_rows(spec.split, columns, strata, self.split_seed)
        return Loaded(columns, rows, table.digest)

    def _tasks_of(self, dataset: str) -> dict[str, TaskSpec]:
        return {name: spec for name, spec in self.tasks.items() if dataset in spec.datasets}

    def _learn(self) -> None:
        """Learn vocabularies and tokenizer from the training split, or take the given ones."""
        if self.learnt is not None:
            self._check_digests(self.learnt["digests"])
            for name, spec in self.tasks.items():
                spec.task.load_state_dict(self.learnt["tasks"][name])
            for name, modality in self.modalities.items():
                modality.load_state_dict(self.learnt["modalities"][name])
            return
        for name, spec in self.tasks.items():
            self._learn_task(name, spec)
        for name, modality in self.modalities.items():
            columns = [
                self.loaded[dataset].column(spec.inputs[name], "train")
                for dataset, spec in self.datasets.items()
                if name in spec.inputs
            ]
            modality.fit(columns)

    def _learn_task(self, name: str, spec: TaskSpec) -> None:
        values = [
            value for d in spec.datasets for value in self.loaded[d].column(spec.target, "train")
        ]
        if not values:
            raise PollinateError(
                f"task {name} has no training rows (data set {', '.join(spec.datasets)}); "
                "check its split"
            )
        try:
            spec.task.learn(values)
        except PollinateError as error:
            raise PollinateError(f"task {name}: {error}") from error

    def _check_digests(self, expected: Mapping[str, str]) -> None:
        changed = [n for n, data in self.loaded.items() if expected.get(n) != data.digest]
        if changed:
            raise PollinateError(
                f"the data of {', '.join(changed)} changed since the run was started, so it can't "
                "be resumed or measured exactly; restore the data or start a new run"
            )

    def _part(self, name: str, split: str, loaded: Loaded, stores: Mapping[str, Store]) -> Part:
        targets, present = {}, {}
        for task, task_spec in self._tasks_of(name).items():
            encoded = task_spec.task.encode(loaded.column(task_spec.target, split))
            if encoded.unseen:
                raise PollinateError(
                    f"task {task}: data set {name} has classes in {split} that the training "
                    f"split lacks: {', '.join(sorted(set(encoded.unseen.values())))}; add "
                    "training rows of them, or leave their rows out"
                )
            targets[task], present[task] = encoded.targets, encoded.present
        return Part(name, stores, loaded.rows[split], targets, present)

"""The data module: several data sets, one mixed batch a step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import LightningDataModule

from datamodules.data_errors import DataErrorPolicy
from datamodules.duplicates import cross_dataset_notes, duplicate_notes
from datamodules.feature_table import FeatureTable
from datamodules.loaders import (
    EpochPlan,
    EvaluationLoader,
    EvaluationSteps,
    LoaderOptions,
    RankSlice,
    StepLoader,
    TrainingSteps,
)
from datamodules.loading import (
    DatasetSpec,
    LoadedDataset,
    TaskSpec,
    learn_modalities,
    learn_tasks,
    load_dataset,
    load_maps,
    prepare_inputs,
)
from datamodules.modalities.base import InputStore, Modality
from datamodules.samplers.base import Sampler
from datamodules.split_dataset import (
    SplitDataset,
    hide_labels,
    labels_overlap,
    make_split,
    missing_label_notes,
    require_task_rows,
)
from datamodules.splits import SPLITS


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
        policy: DataErrorPolicy | None = None,
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
        self.policy = policy or DataErrorPolicy()
        self.labels = labels
        self.notes: list[str] = []
        self.parts: dict[str, dict[str, SplitDataset]] = {}  # {split: {data set: part}}
        self.loaded: dict[str, LoadedDataset] = {}
        self.position = 0
        self.history: list[dict[str, int]] = []  # counts of the epochs before ``position``
        self.plan: EpochPlan | None = None
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
            tasks = list(self._tasks_of(name))
            self.notes += duplicate_notes(name, loaded, tasks, self.policy.strict)
        self.notes += cross_dataset_notes(self.loaded, self.policy.strict)
        learn_tasks(self.tasks, self.loaded, self.learnt)
        parts = {
            split: {name: self._part(name, split, stores[name]) for name in self.datasets}
            for split in SPLITS
        }
        for name, task in self.tasks.items():
            require_task_rows(name, task, parts)
            self.notes += missing_label_notes(name, task, parts)
        self.parts = parts
        for loaded in self.loaded.values():
            loaded.table.release()  # training reads what was prepared

    def use_cached_features(self, modality: str, kept: Mapping[str, FeatureTable]) -> None:
        """Give features that were kept in place of a modality's inputs, in all splits.

        Args:
            modality: whose rows.
            kept: {data set: features of all its rows}.
        """
        for parts in self.parts.values():
            for name, rows in kept.items():
                parts[name].kept = {**parts[name].kept, modality: rows}

    def load(self, name: str) -> LoadedDataset:
        """Read and split one data set.

        Raises:
            PollinateError: it can't be read.
        """
        cache, tasks = self.policy.cache, self._tasks_of(name)
        loaded = load_dataset(name, self.datasets[name], tasks, self.split_seed, cache)
        load_maps(loaded, tasks, self.datasets[name], self.modalities, cache)
        return loaded

    def learn_modalities(self) -> None:
        """Learn the tokenizer from the training rows, or take the given one."""
        learn_modalities(self.modalities, self.loaded, self.learnt)

    def prepare(self, name: str) -> dict[str, InputStore]:
        """Prepare all inputs of a data set that was loaded, and note the rows where that fails."""
        inputs, cache = self.datasets[name].inputs, self.policy.cache
        stores = prepare_inputs(self.loaded[name], inputs, self.modalities, cache)
        notes = [store.note() for store in stores.values()]
        self.notes += [f"{name}: {note}" for note in notes if note is not None]
        return stores

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
        self.plan = EpochPlan(self.sampler, self.sizes, self.history)
        share = self._share() if self.divided else RankSlice()
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

    def tasks_share_rows(self) -> bool:
        """Say whether all tasks are learnt from the same training rows, by and large."""
        same = len({tuple(spec.datasets) for spec in self.tasks.values()}) == 1
        return same and labels_overlap(self.tasks, self.parts["train"])

    def _share(self) -> RankSlice:
        trainer = self.trainer
        return RankSlice(trainer.global_rank, trainer.world_size) if trainer else RankSlice()

    def _loader_options(self) -> dict[str, Any]:
        return {"num_workers": self.options.workers, "pin_memory": self.options.pin_memory}

    def _tasks_of(self, dataset: str) -> dict[str, TaskSpec]:
        return {name: spec for name, spec in self.tasks.items() if dataset in spec.datasets}

    def _refuse_bad_rows(self) -> None:
        for loaded in self.loaded.values() if not self.policy.skip_bad_rows else ():
            loaded.bad.refuse()

    def _leave_bad_rows_out(self, loaded: LoadedDataset) -> None:
        loaded.rows = {split: loaded.bad.without(rows) for split, rows in loaded.rows.items()}
        if loaded.bad.found:
            self.notes.append(loaded.bad.note())

    def _part(self, name: str, split: str, stores: Mapping[str, InputStore]) -> SplitDataset:
        tasks = self._tasks_of(name)
        part, notes = make_split(name, split, self.loaded[name], stores, tasks)
        self.notes += notes
        if split == "train" and self.labels < 1:
            hide_labels(part, tasks, self.labels, self.seed)
        return part

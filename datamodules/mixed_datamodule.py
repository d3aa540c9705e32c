"""The data module: several data sets, one mixed batch a step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from lightning.pytorch import LightningDataModule

from datamodules.counter_rng import uniforms
from datamodules.data_errors import DataErrorPolicy, doubt_notes
from datamodules.dataset import Dataset
from datamodules.duplicates import cross_dataset_notes, duplicate_notes
from datamodules.feature_table import FeatureTable
from datamodules.labelled_task import LabelledTask
from datamodules.loaders import (
    EpochPlan,
    EvaluationLoader,
    EvaluationSteps,
    RankSlice,
    StepLoader,
    TrainingSteps,
)
from datamodules.loading import (
    LoadedDataset,
    learn_modalities,
    learn_tasks,
    load_dataset,
    load_maps,
    prepare_inputs,
    prepare_prompts,
    refuse_empty_rows,
)
from datamodules.lookalikes import lookalike_notes
from datamodules.modalities.base import InputStore, Modality
from datamodules.modalities.defaults import make_modality
from datamodules.modalities.forms import forms_of, modality_of
from datamodules.modalities.prompt import PromptModality
from datamodules.modalities.text import TextModality
from datamodules.samplers.base import Sampler
from datamodules.samplers.temperature import Temperature
from datamodules.split_dataset import (
    SplitDataset,
    hide_labels,
    labels_overlap,
    make_split,
    missing_label_notes,
    require_task_rows,
)
from datamodules.splits import SPLITS
from pollinate.errors import PollinateError, UsageError
from pollinate.names import name_problem
from pollinate.suggest import hint

HELD_BACK = "calibration"  # the part of the validation rows that only calibrates


class MixedDataModule(LightningDataModule):
    """Loads, splits and encodes the data sets; hands out mixed training steps.

    It is an ordinary data module of Lightning, ``trainer.fit(model, datamodule=data)``; its loaders
    need no trainer. Each training step has rows of all data sets.

    Args:
        datasets: {name: its rows, inputs and split}.
        tasks: {name: the task, which says its data sets and target column}.
        sampler: how many rows of each data set a step has; None: ``Temperature(batch_size=64)``.
        modalities: {modality: how raw values become tensors, or {option: value}}; those left out
            have their defaults. An ensemble has further forms: {"text-2": ...}.
        seed: of order and augmentation.
        split_seed: of the splits.
        workers: processes that prepare batches, >= 0; any number gives the same batches.
        pin_memory: whether batches lie in memory that a GPU reads fast.
        evaluation_batch_size: rows of a step of validation, test and prediction, >= 1.
        label_fraction: share of each task's training labels that is seen, in (0, 1]. What labels
            there are is learnt from all of them.
        hold_back: rows of the validation split that a task needs at least for calibration alone:
            half of a data set's validation rows are then held back from choosing the best weights,
            where the half suffices; 0: none are.
        policy: what to do about faults of the data; None: refuse them.
        learnt: ``learnt_state()`` of the run to go on with; None: learn from the data.

    Raises:
        UsageError: a name can't be used, a task is of no data set or of one that isn't there, or an
            argument is of another kind.

    Attributes:
        notes: what a user should know of the data, found by ``setup``.

    Examples:
        >>> import pollinate as po
        >>> data = po.MixedDataModule(
        ...     {"reviews": po.Dataset("reviews.csv", inputs={"text": "review"})},
        ...     tasks={"mood": po.tasks.Classification("reviews", target="mood")},
        ...     sampler=po.samplers.Temperature(batch_size=16),
        ... )
        >>> data.setup()
        >>> batch = next(iter(data.train_dataloader()))
        >>> batch.sizes, batch.labelled
        ({'reviews': 16}, {'mood': 16})
    """

    def __init__(
        self,
        datasets: Mapping[str, Dataset],
        tasks: Mapping[str, LabelledTask],
        sampler: Sampler | None = None,
        modalities: Mapping[str, Modality | Mapping[str, Any]] | None = None,
        seed: int = 0,
        split_seed: int = 0,
        *,
        workers: int = 0,
        pin_memory: bool = False,
        evaluation_batch_size: int = 256,
        label_fraction: float = 1.0,
        hold_back: int = 0,
        policy: DataErrorPolicy | None = None,
        learnt: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        require_named("datasets", datasets, Dataset, "po.Dataset(rows, inputs={'text': COLUMN})")
        require_named("tasks", tasks, LabelledTask, "po.tasks.Classification(target=COLUMN)")
        if sampler is None:
            sampler = Temperature(batch_size=64)
        if not isinstance(sampler, Sampler):
            raise UsageError(
                "sampler must be one of po.samplers, such as "
                f"po.samplers.Temperature(batch_size=64), got {sampler!r:.60}"
            )
        for name, value in (("workers", workers), ("evaluation_batch_size", evaluation_batch_size)):
            if value < (name != "workers"):
                raise UsageError(f"{name} must be >= {int(name != 'workers')}, got {value}")
        if not 0 < label_fraction <= 1:
            raise UsageError(f"label_fraction must be in (0, 1], got {label_fraction}")
        self.datasets = dict(datasets)
        self.tasks = dict(tasks)
        for name, task in self.tasks.items():
            try:
                task.use_datasets(list(self.datasets))
            except UsageError as error:
                raise UsageError(f"task {name}: {error}") from error
        for name, one in self.datasets.items():
            require_something_read(name, one, self._tasks_of(name))
        self.modalities = self._modalities(modalities or {})
        self.sampler = sampler
        self.seed = seed
        self.split_seed = split_seed
        self.workers = workers
        self.pin_memory = pin_memory
        self.evaluation_batch_size = evaluation_batch_size
        self.label_fraction = label_fraction
        self.hold_back = hold_back
        self.policy = policy or DataErrorPolicy()
        self.learnt = learnt
        self.notes: list[str] = []
        self.parts: dict[str, dict[str, SplitDataset]] = {}  # {split: {data set: part}}
        self.loaded: dict[str, LoadedDataset] = {}
        self.prompts: dict[str, PromptModality] = {}  # {task that answers in words: how}
        self.position = 0
        self.history: list[dict[str, int]] = []  # counts of the epochs before ``position``
        self.plan: EpochPlan | None = None
        self._loader: StepLoader | None = None
        self.divides_rows = (
            True  # whether the processes divide a training step's rows, or each takes all
        )
        sampler.bind({name: list(self._tasks_of(name)) for name in self.datasets})

    def use_preprocessing(self, assets: Mapping[str, Mapping[str, Any]]) -> None:
        """Prepare inputs as pre-trained encoders need them; anew, if they were prepared otherwise.

        Args:
            assets: {modality: what its encoder brings along: its size, tokenizer or the like}.

        Raises:
            UsageError: no data set has the modality.
        """
        changed = False
        for name, own in assets.items():
            if name not in self.modalities:
                raise UsageError(
                    f"an encoder reads {name!r}, which no data set has among its inputs"
                    f"{hint(name, self.modalities, 'modalities')}"
                )
            if self.modalities[name].assets != dict(own):
                self.modalities[name] = self.modalities[name].with_options(assets=own)
                changed = True
        if changed and self.parts:
            self.notes, self.parts, self.loaded = [], {}, {}
            self.plan = self._loader = None
            self.setup()

    def setup(self, stage: str | None = None) -> None:
        """Load everything once; later calls do nothing.

        Raises:
            PollinateError: a file or column is missing, rows can't be used, a data set has no
                training rows, or a split has labels that the training split lacks.
        """
        if self.parts:
            return
        known = len(self.policy.cache.notes)
        self.loaded = {name: self.load(name) for name in self.datasets}
        self._refuse_bad_rows()
        self.learn_modalities()
        prepared = {name: self.prepare(name) for name in self.loaded}
        self._refuse_bad_rows()
        for name, loaded in self.loaded.items():
            self.notes += [f"{name}: {note}" for note in loaded.table.notes]
            self._leave_bad_rows_out(loaded)
            self.notes += doubt_notes(name, loaded.table)
            require_training_rows(name, loaded)
            tasks = list(self._tasks_of(name))
            self.notes += duplicate_notes(name, loaded, tasks, self.policy.strict)
        self.notes += cross_dataset_notes(self.loaded, self.policy.strict)
        learn_tasks(self.tasks, self.loaded, self.learnt)
        parts = {
            split: {name: self._part(name, split, *prepared[name]) for name in self.datasets}
            for split in SPLITS
        }
        for name, task in self.tasks.items():
            if self.policy.every_split:
                require_task_rows(name, task, parts)
            self.notes += missing_label_notes(name, task, parts)
            self.notes += lookalike_notes(name, task.classes)
            self.notes += [f"task {name}: {note}" for note in task.notes()]
        if self.hold_back:
            parts["valid"], parts[HELD_BACK] = self._halves(parts["valid"])
        self.parts = parts
        self.notes += self.policy.cache.notes[known:]
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
                parts[name].cached = {**parts[name].cached, modality: rows}

    def load(self, name: str, every_column: bool = False) -> LoadedDataset:
        """Read and split one data set.

        Args:
            name: of the data set.
            every_column: whether columns are read that nothing needs.

        Raises:
            PollinateError: it can't be read.
        """
        cache, tasks, seed = self.policy.cache, self._tasks_of(name), self.split_seed
        own, bad_first = self.datasets[name], not self._knows_rows(name)
        loaded = load_dataset(name, own, tasks, seed, cache, every_column, bad_first)
        load_maps(loaded, tasks, self.datasets[name], self.modalities, cache)
        return loaded

    def learn_modalities(self) -> None:
        """Learn the tokenizer from the training rows, or take the given one."""
        learn_modalities(self.modalities, self.loaded, self.learnt)
        for name, task in self.tasks.items():
            if task.prompt is not None:
                self.prompts[name] = prompt_modality(name, task, self.modalities)
                task.use_codec(self.prompts[name])

    def prepare(self, name: str) -> tuple[dict[str, InputStore], dict[str, InputStore]]:
        """Prepare all inputs of a data set that was loaded, and note the rows where that fails.

        Returns:
            {modality: inputs}, and {task that answers in words: prompts}.
        """
        loaded, tasks, cache = self.loaded[name], self._tasks_of(name), self.policy.cache
        stores = prepare_inputs(loaded, self.datasets[name].inputs, self.modalities, cache)
        prompts = prepare_prompts(loaded, tasks, self.prompts, cache)
        refuse_empty_rows(loaded, [*stores.values(), *prompts.values()])
        notes = [(name, store.note()) for store in stores.values()]
        notes += [(f"{name}, task {task}", store.note()) for task, store in prompts.items()]
        self.notes += [f"{where}: {note}" for where, note in notes if note is not None]
        return stores, prompts

    @property
    def sizes(self) -> dict[str, int]:
        """Training rows by data set."""
        self.setup()
        return {name: part.size for name, part in self.parts["train"].items()}

    @property
    def epoch_steps(self) -> int:
        """Steps of one epoch."""
        return self.sampler.epoch_steps(self.sizes)

    def train_dataloader(self) -> StepLoader:
        """Return the mixed training steps, from where the run stands."""
        self.setup()
        self.plan = EpochPlan(self.sampler, self.sizes, self.history)
        share = self._share() if self.divides_rows else RankSlice()
        steps = TrainingSteps(self.parts["train"], self.plan, self.seed, share)
        self._loader = StepLoader(
            steps, self.plan, self.position, self._distinct_steps(), **self._loader_options()
        )
        return self._loader

    def _distinct_steps(self) -> int | None:
        """Return how many steps ``Trainer(overfit_batches=...)`` repeats; None: it isn't set."""
        given = getattr(self.trainer, "overfit_batches", 0)  # Lightning sets it unannounced
        if not given:
            return None
        return int(given) if isinstance(given, int) else max(1, int(self.epoch_steps * given))

    def val_dataloader(self) -> EvaluationLoader | list[EvaluationLoader]:
        """Return every validation row once; no loader if there is none."""
        return self._loader_of("valid")

    def test_dataloader(self) -> EvaluationLoader | list[EvaluationLoader]:
        """Return every test row once; no loader if there is none."""
        return self._loader_of("test")

    def predict_dataloader(self) -> EvaluationLoader | list[EvaluationLoader]:
        """Return every test row once; no loader if there is none."""
        return self._loader_of("test")

    def evaluation_loader(self, split: str) -> EvaluationLoader:
        """Return every row of a split once."""
        self.setup()
        steps = EvaluationSteps(self.parts[split], self.evaluation_batch_size, self._share())
        return EvaluationLoader(steps, len(steps), **self._loader_options())

    def _loader_of(self, split: str) -> EvaluationLoader | list[EvaluationLoader]:
        loader = self.evaluation_loader(split)
        return loader if len(loader) else []  # Lightning skips what has no loader

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
            "tasks": {name: spec.state_dict() for name, spec in self.tasks.items()},
            "modalities": {name: item.state_dict() for name, item in self.modalities.items()},
            "digests": {name: loaded.digest for name, loaded in self.loaded.items()},
            "rows": {n: loaded.dealt for n, loaded in self.loaded.items() if self._knows_rows(n)},
            "labelled": self.labelled_rows(),
            "readings": {name: spec.source.reading() for name, spec in self.datasets.items()},
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
        return {"num_workers": self.workers, "pin_memory": self.pin_memory}

    def _tasks_of(self, dataset: str) -> dict[str, LabelledTask]:
        return {name: spec for name, spec in self.tasks.items() if dataset in spec.datasets}

    def _knows_rows(self, dataset: str) -> bool:
        """Say whether the run to go on with, if there is one, noted what was dealt out."""
        return self.learnt is None or dataset in self.learnt.get("rows", {})

    def _refuse_bad_rows(self) -> None:
        for loaded in self.loaded.values() if not self.policy.skip_bad_rows else ():
            loaded.bad.refuse()

    def _leave_bad_rows_out(self, loaded: LoadedDataset) -> None:
        loaded.rows = {split: loaded.bad.without(rows) for split, rows in loaded.rows.items()}
        if loaded.bad.found:
            self.notes.append(loaded.bad.note())

    def _part(
        self,
        name: str,
        split: str,
        stores: Mapping[str, InputStore],
        prompts: Mapping[str, InputStore],
    ) -> SplitDataset:
        tasks = self._tasks_of(name)
        part, notes = make_split(name, split, self.loaded[name], stores, tasks, prompts)
        self.notes += notes
        if split == "train" and self.label_fraction < 1:
            hide_labels(part, tasks, self.label_fraction, self.seed)
        return part

    def _halves(
        self, valid: Mapping[str, SplitDataset]
    ) -> tuple[dict[str, SplitDataset], dict[str, SplitDataset]]:
        """Part the validation rows: those that choose, and those held back for calibration."""
        kept, held = {}, {}
        for name, part in valid.items():
            drawn = uniforms(self.split_seed, np.arange(part.size), count=1)[:, 0]
            order = np.argsort(drawn, kind="stable")
            half = part.size // 2
            own = [part.present[task].numpy()[order[:half]].sum() for task in self._tasks_of(name)]
            if min(own, default=0) < self.hold_back:
                self.notes.append(
                    f"{name}: half of its {part.size:,} validation rows are too few to be held "
                    f"back for calibration, which takes {self.hold_back:,} with a label: all "
                    "of them choose the best weights, and calibrate"
                )
                half = 0
            kept[name] = part.subset(np.sort(order[half:]))
            held[name] = part.subset(np.sort(order[:half]))
        return kept, held

    def _modalities(self, given: Mapping[str, Modality | Mapping[str, Any]]) -> dict[str, Modality]:
        used = used_modalities(self.datasets.values(), self.tasks.values())
        for name in given:
            if modality_of(name) not in used:
                raise UsageError(
                    f"modalities names {name!r}, which no data set has among its inputs"
                    f"{hint(name, used, 'modalities')}"
                )
        found: dict[str, Modality] = {}
        for name in (form for m in used for form in forms_of(m, dict.fromkeys([m, *given]))):
            own = given.get(name, {})
            found[name] = (
                own if isinstance(own, Modality) else make_modality(modality_of(name), own)
            )
        words = any(task.labels_words for task in self.tasks.values())
        for name, one in found.items():
            if words and isinstance(one, TextModality) and not one.words:
                found[name] = one.with_options(words=True)
        return found


def require_named(what: str, given: object, kind: type, example: str) -> None:
    """Check a mapping of names."""
    if not isinstance(given, Mapping) or not given:
        raise UsageError(f"{what} must be {{name: {example}}}, at least one, got {given!r:.60}")
    for name, value in given.items():
        if problem := name_problem(name):
            raise UsageError(f"{what}: {problem}")
        if not isinstance(value, kind):
            raise UsageError(f"{what}[{name!r}] must be like {example}, got {type(value).__name__}")


def used_modalities(datasets: Iterable[Dataset], tasks: Iterable[LabelledTask]) -> list[str]:
    """Return the modalities that are read; prompts are texts."""
    used = {modality for one in datasets for modality in one.inputs}
    return sorted(used | {"text" for task in tasks if task.prompt is not None})


def require_something_read(name: str, dataset: Dataset, tasks: Mapping[str, LabelledTask]) -> None:
    """Check that a data set without inputs is for tasks that have prompts."""
    if dataset.inputs:
        return
    reading = [task for task, one in tasks.items() if one.prompt is None]
    if reading or not tasks:
        raise UsageError(
            f"data set {name} must say which columns {' and '.join(reading) or 'its tasks'} read, "
            "such as inputs={'text': 'review'}; only tasks with a prompt need none"
        )


def prompt_modality(
    name: str, task: LabelledTask, modalities: Mapping[str, Modality]
) -> PromptModality:
    """Return how the prompts of a task that answers in words become tokens.

    Raises:
        UsageError: the model can't take them.
    """
    text = modalities["text"]
    assert task.prompt is not None
    assert isinstance(text, TextModality)
    try:
        return PromptModality(task.prompt, text)
    except UsageError as error:
        raise UsageError(f"task {name}: {error}") from error


def require_training_rows(name: str, loaded: LoadedDataset) -> None:
    """Check that a data set has anything to learn from."""
    if not len(loaded.rows["train"]):
        others = ", ".join(f"{split} {len(rows):,}" for split, rows in loaded.rows.items())
        raise PollinateError(
            f"data set {name} has no training rows (rows: {others}); check its split, or leave the "
            "data set out"
        )

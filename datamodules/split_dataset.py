"""One split of one data set: its rows as batches, its tasks' labels as tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from datamodules.batch import Batch
from datamodules.feature_table import FeatureTable
from datamodules.label_maps import UNLABELLED_PIXEL, MapStore
from datamodules.labelled_task import EncodedTargets, LabelledTask
from datamodules.loading import LoadedDataset, encode_map_presence
from datamodules.lookalikes import lookalike_hint
from datamodules.modalities.base import InputStore, Maps
from datamodules.row_order import LaneStream, ShuffledStream
from pollinate.errors import PollinateError

CHUNK = 64  # maps that are in memory at a time
# store, its rows that are wanted, which of the batch's rows these are, maps on them
ReadRows = Callable[[InputStore, np.ndarray, np.ndarray, Maps], tuple[Tensor, Maps]]


@dataclass
class MapTargets:
    """A task's targets that lie on inputs.

    store: prepared maps of all rows of the data set; modality: of the inputs.
    encode: maps (n, H, W) -> targets.
    """

    store: MapStore
    modality: str
    encode: Callable[[np.ndarray], EncodedTargets]

    def targets(self, rows: np.ndarray) -> Tensor:
        """Return the targets of the chosen rows as they are: (n, H, W)."""
        return self.encode(self.store.rows(rows)).targets


@dataclass
class SplitDataset:
    """One split of one data set.

    name: the data set's name.
    stores: {modality: prepared inputs of all rows of the data set}.
    rows: (N,) int64, the split's rows in the stores.
    targets: {task: (N, ...)}, of tasks whose targets are in memory.
    present: {task: (N,) bool}, of all tasks.
    streamed: whether rows are read from files as they come, so that neighbours should come soon
        after each other.
    maps: {task: targets that lie on inputs}.
    cached: {modality: features of all rows of the data set}, given in place of the inputs.
    held_out: {task: (N, K)}, what tasks are given in place of the terms; see ``Batch.held_out``.
    gives_terms: whether batches have the terms that are counted: whether anything reads them.
    prompts: {task that answers in words: prompts of all rows of the data set}.
    """

    name: str
    stores: Mapping[str, InputStore]
    rows: np.ndarray
    targets: dict[str, Tensor]
    present: dict[str, Tensor]
    streamed: bool = False
    maps: Mapping[str, MapTargets] = field(default_factory=dict)
    cached: Mapping[str, FeatureTable] = field(default_factory=dict)
    held_out: Mapping[str, Tensor] = field(default_factory=dict)
    gives_terms: bool = True
    prompts: Mapping[str, InputStore] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Number of rows N, >= 0."""
        return len(self.rows)

    def subset(self, rows: np.ndarray) -> SplitDataset:
        """Return the given rows (n,) of the split as a split of their own."""
        chosen = torch.from_numpy(rows)
        return replace(
            self,
            rows=self.rows[rows],
            targets={task: values[chosen] for task, values in self.targets.items()},
            present={task: mask[chosen] for task, mask in self.present.items()},
            held_out={task: values[chosen] for task, values in self.held_out.items()},
        )

    def batch(self, rows: np.ndarray) -> Batch:
        """Return the given rows (n,) of the split as they are."""
        return self._batch(rows, lambda store, chosen, _, maps: (store.rows(chosen), maps))

    def augmented(self, rows: np.ndarray, seed: int, passes: np.ndarray) -> Batch:
        """Return the given rows (n,) of the split augmented; see ``InputStore.augmented``."""
        own_seed = crc32(f"{seed}/{self.name}".encode())
        return self._batch(
            rows,
            lambda store, chosen, has, maps: store.augmented_with_maps(
                chosen, own_seed, passes[has], maps
            ),
        )

    def labels(self, task: str) -> Iterator[Tensor]:
        """Yield a task's targets (n, ...) of the rows that have one, some at a time."""
        rows = np.flatnonzero(self.present[task].numpy())
        if task not in self.maps:
            yield self.targets[task][torch.from_numpy(rows)]
            return
        for start in range(0, len(rows), CHUNK):
            yield self.maps[task].targets(self.rows[rows[start : start + CHUNK]])

    def labelled(self, rows: np.ndarray) -> dict[str, int]:
        index = torch.from_numpy(rows)
        return {task: int(mask[index].sum()) for task, mask in self.present.items()}

    def lengths(self) -> np.ndarray | None:
        """Return the sum of each row's lengths, (N,) int, None if all rows are of one length."""
        known = [store.lengths() for store in (*self.stores.values(), *self.prompts.values())]
        found = [lengths[self.rows] for lengths in known if lengths is not None]
        total: np.ndarray = np.sum(found, axis=0)
        return total if found else None

    def stream(self, seed: int, bucket: int, count: int) -> ShuffledStream | LaneStream:
        """Return the order in which training takes the rows.

        Args:
            seed: of the order.
            bucket: batches that are sorted by length together; 1 is off.
            count: rows that a step takes, as far as that is known.
        """
        if self.streamed:
            return LaneStream(seed, self.name, self.size, count)
        return ShuffledStream(
            seed, self.name, self.size, self.lengths() if bucket > 1 else None, bucket
        )

    def _batch(self, rows: np.ndarray, read: ReadRows) -> Batch:
        batch = Batch({}, {}, {}, torch.from_numpy(rows))
        for modality, store in self.stores.items():
            chosen = self.rows[rows]
            has = store.has[chosen]
            moved = self._maps(modality, chosen[has])
            if modality in self.cached:
                batch.cached[modality] = self.cached[modality].rows(chosen[has])
            else:
                batch.inputs[modality], moved = read(store, chosen[has], has, moved)
            for task, values in moved.items():
                batch.targets[task] = self.maps[task].encode(scatter_maps(values, has)).targets
            words = store.words(chosen[has])
            if words is not None:
                batch.words[modality] = words
            terms = store.terms(chosen[has]) if self.gives_terms else None
            if terms is not None:
                batch.terms[modality] = terms
            if not has.all():
                batch.has[modality] = torch.from_numpy(has)
        for task, store in self.prompts.items():
            batch.prompts[task] = all_prompts(store, self.rows[rows])
        batch.held_out = {task: values[batch.index] for task, values in self.held_out.items()}
        batch.targets |= {task: values[batch.index] for task, values in self.targets.items()}
        batch.present = {task: mask[batch.index] for task, mask in self.present.items()}
        return batch

    def _maps(self, modality: str, rows: np.ndarray) -> Maps:
        """Return {task: maps (n, H, W)} that lie on a modality's inputs, of rows of the stores."""
        return {
            task: torch.from_numpy(found.store.rows(rows))
            for task, found in self.maps.items()
            if found.modality == modality
        }


def all_prompts(store: InputStore, rows: np.ndarray) -> Tensor:
    """Return the prompts of the chosen rows, of zeros where there is none: (n, P) int64."""
    has = store.has[rows]
    there = store.rows(rows[has])
    if has.all():
        return there
    found = there.new_zeros((len(rows), there.shape[1]))
    found[torch.from_numpy(has)] = there
    return found


def scatter_maps(values: Tensor, has: np.ndarray) -> np.ndarray:
    """Return maps (m, H, W) of the rows in ``has`` as (n, H, W), else ``UNLABELLED_PIXEL``."""
    if has.all():
        return values.numpy()
    full = np.full((len(has), *values.shape[1:]), UNLABELLED_PIXEL, dtype=values.numpy().dtype)
    full[has] = values.numpy()
    return full


SHOWN = 20  # labels that a message lists


def make_split(
    name: str,
    split: str,
    loaded: LoadedDataset,
    stores: Mapping[str, InputStore],
    tasks: Mapping[str, LabelledTask],
    prompts: Mapping[str, InputStore],
) -> tuple[SplitDataset, list[str]]:
    """Return a split of a data set, and what a user should know of its labels."""
    targets, present = {}, {}
    maps: dict[str, MapTargets] = {}
    notes = []
    for task, spec in tasks.items():
        form, values = spec.maps, loaded.label(task, split)
        if form is None:
            encoded = spec.encode(values)
            targets[task], present[task] = encoded.targets, encoded.present
            unseen = encoded.unseen
        else:
            maps[task] = MapTargets(loaded.maps[task], form.modality, spec.encode)
            present[task], unseen = encode_map_presence(spec, values)
        if unseen:
            if spec.unseen != "drop":
                refuse_unseen(task, name, split, unseen, loaded, spec.classes)
            notes.append(unseen_note(task, name, split, unseen, spec.classes))
    streamed, own = bool(loaded.table.streamed), loaded.rows[split]
    if prompts:  # a row may have a prompt alone, or inputs alone
        there = np.zeros(len(own), dtype=bool)
        for one in stores.values():
            there |= one.has[own]
        for task in tasks:
            read = prompts[task].has[own] if task in prompts else there
            present[task] = present[task] & torch.from_numpy(read)
    part = SplitDataset(name, stores, own, targets, present, streamed, maps, prompts=prompts)
    return part, notes


def refuse_unseen(
    task: str,
    name: str,
    split: str,
    unseen: Mapping[int, str],
    loaded: LoadedDataset,
    classes: Sequence[str],
) -> None:
    """Refuse labels that the training split lacks."""
    first = loaded.rows[split][next(iter(unseen))]
    raise PollinateError(
        f"task {task}: data set {name} has labels in {split} that the training split "
        f"lacks: {first_labels(unseen)} (first in {loaded.table.place(int(first))})"
        f"{lookalike_hint(unseen.values(), classes)}; add training rows of them, or don't count "
        f"them: unseen=drop (data.tasks.{task}.unseen=drop)"
    )


def unseen_note(
    task: str, name: str, split: str, unseen: Mapping[int, str], classes: Sequence[str]
) -> str:
    """Note that rows with labels that the training split lacks don't count."""
    return (
        f"{name}: {len(unseen):,} labels of {task} in {split} don't count, the training split "
        f"lacks them: {first_labels(unseen)}{lookalike_hint(unseen.values(), classes)}"
    )


def first_labels(unseen: Mapping[int, str]) -> str:
    labels = sorted(set(unseen.values()))
    return f"{', '.join(labels[:SHOWN])}{' ...' if len(labels) > SHOWN else ''}"


def hide_labels(
    part: SplitDataset, tasks: Mapping[str, LabelledTask], share: float, seed: int
) -> None:
    """Leave each task its share of a part's labels.

    Args:
        part: of training rows, changed in place.
        tasks: {task: what it is}.
        share: in (0, 1].
        seed: of the draw.
    """
    for task, present in part.present.items():
        targets = part.targets.get(task)
        classes = None if targets is None else tasks[task].class_numbers(targets)
        numbers = np.zeros(len(present), np.int64) if classes is None else classes.numpy()
        draw = label_generator(seed, part.name, task)
        seen = label_subset(present.numpy(), numbers, share, draw)
        part.present[task] = torch.from_numpy(seen)


def label_generator(seed: int, dataset: str, task: str) -> np.random.Generator:
    """Return what draws a task's labels in a data set; other tasks and data sets change nothing."""
    return np.random.default_rng([seed, crc32(f"{dataset}/{task}".encode())])


def label_subset(
    present: np.ndarray, strata: np.ndarray, share: float, draw: np.random.Generator
) -> np.ndarray:
    """Return which labels are left: max(1, round(share n)) of each stratum's n.

    With the same draw a smaller share leaves a part of what a larger one leaves.

    Args:
        present: (N,) bool, rows with a label.
        strata: (N,) int, of which each is left its share: the classes, say.
        share: in (0, 1].
        draw: random numbers.
    """
    left = np.zeros(len(present), bool)
    order = draw.permutation(len(present))
    for stratum in np.unique(strata[present]):
        own = order[present[order] & (strata[order] == stratum)]
        left[own[: max(1, round(share * len(own)))]] = True
    return left


COMMON = 0.5  # of the labels of the task that has fewer


def require_task_rows(
    name: str, spec: LabelledTask, parts: Mapping[str, Mapping[str, SplitDataset]]
) -> None:
    """Check that a task has rows in every split."""
    for split, found in parts.items():
        if not any(found[dataset].size for dataset in spec.datasets):
            raise PollinateError(
                f"task {name} has no {split} rows (data set {', '.join(spec.datasets)}); give it "
                f"some, for example drawn from the training rows: split: {{..., {split}: 0.1}}"
            )


def missing_label_notes(
    name: str, spec: LabelledTask, parts: Mapping[str, Mapping[str, SplitDataset]]
) -> Iterator[str]:
    """Yield a note for each split whose rows have no label of the task, if it has any at all."""
    if set(spec.unlabelled) == set(spec.datasets):
        return
    for split, found in parts.items():
        if not any(found[dataset].present[name].any() for dataset in spec.datasets):
            rows = sum(found[dataset].size for dataset in spec.datasets)
            yield f"task {name} has no {'labels' if rows else 'rows'} in {split}, so no score there"


def labels_overlap(specs: Mapping[str, LabelledTask], parts: Mapping[str, SplitDataset]) -> bool:
    """Say whether any two tasks have at least half of their labels on the same rows.

    A task without labels, which learns from another model's outputs, has them on all rows.

    Args:
        specs: {task: where it has rows}, of tasks that have the same data sets.
        parts: {data set: its rows}.
    """
    masks = [torch.cat([parts[d].present[name] for d in s.datasets]) for name, s in specs.items()]
    some = [mask for mask in masks if mask.any() and not mask.all()]
    return all(
        int((a & b).sum()) >= COMMON * min(int(a.sum()), int(b.sum()))
        for a, b in combinations(some, 2)
    )

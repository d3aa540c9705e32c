"""A split of a data set, with the labels of its tasks as numbers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from datamodules.dataset import MapTargets, Part
from datamodules.loading import Loaded, TaskSpec
from datamodules.maps.loading import labelled
from datamodules.modalities.base import Store
from datamodules.thinning import generator, thinned
from pipeline.errors import PollinateError

SHOWN = 20  # labels that a message lists


def make_part(
    name: str,
    split: str,
    loaded: Loaded,
    stores: Mapping[str, Store],
    tasks: Mapping[str, TaskSpec],
) -> tuple[Part, list[str]]:
    """Return a split of a data set, and what a user should know of its labels.

    Args:
        name: of the data set.
        split: train, valid or test.
        loaded: the data set's rows.
        stores: {modality: prepared inputs of all its rows}.
        tasks: those on this data set, which have learnt their labels.

    Raises:
        PollinateError: there are labels that the training split lacks.
    """
    targets, present = {}, {}
    maps: dict[str, MapTargets] = {}
    notes = []
    for task, spec in tasks.items():
        form, values = spec.task.maps, loaded.label(task, split)
        if form is None:
            encoded = spec.task.encode(values)
            targets[task], present[task] = encoded.targets, encoded.present
            unseen = encoded.unseen
        else:
            maps[task] = MapTargets(loaded.maps[task], form.modality, spec.task.encode)
            present[task], unseen = labelled(spec.task, values)
        if unseen:
            if not spec.drop_unseen:
                refuse_unseen(task, name, split, unseen, loaded)
            notes.append(unseen_note(task, name, split, unseen))
    streamed = bool(loaded.table.streamed)
    return Part(name, stores, loaded.rows[split], targets, present, streamed, maps), notes


def refuse_unseen(
    task: str, name: str, split: str, unseen: Mapping[int, str], loaded: Loaded
) -> None:
    """Refuse labels that the training split lacks.

    Raises:
        PollinateError: always.
    """
    first = loaded.rows[split][next(iter(unseen))]
    raise PollinateError(
        f"task {task}: data set {name} has labels in {split} that the training split "
        f"lacks: {some_of(unseen)} (first in {loaded.table.place(int(first))}); add "
        f"training rows of them, or don't count them: data.tasks.{task}.unseen=drop"
    )


def unseen_note(task: str, name: str, split: str, unseen: Mapping[int, str]) -> str:
    """Note that rows with labels that the training split lacks don't count."""
    return (
        f"{name}: {len(unseen):,} labels of {task} in {split} don't count, the training split "
        f"lacks them: {some_of(unseen)}"
    )


def some_of(unseen: Mapping[int, str]) -> str:
    """Return the first of some labels, for a message."""
    labels = sorted(set(unseen.values()))
    return f"{', '.join(labels[:SHOWN])}{' ...' if len(labels) > SHOWN else ''}"


def hide_labels(part: Part, tasks: Mapping[str, TaskSpec], share: float, seed: int) -> None:
    """Leave each task its share of a part's labels.

    Args:
        part: of training rows, changed in place.
        tasks: {task: what it is}.
        share: in (0, 1].
        seed: of the draw.
    """
    for task, present in part.present.items():
        targets = part.targets.get(task)
        classes = None if targets is None else tasks[task].task.class_numbers(targets)
        numbers = np.zeros(len(present), np.int64) if classes is None else classes.numpy()
        draw = generator(seed, part.name, task)
        seen = thinned(present.numpy(), numbers, share, draw)
        part.present[task] = torch.from_numpy(seen)

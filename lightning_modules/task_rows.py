"""Which encoded rows and which targets of a step belong to which task."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from datamodules.batch import Batch
from lightning_modules.trunks.base import Routes

ALL_TASKS = ""  # in place of a task
EncodingKeys = Mapping[
    str, tuple[str, str]
]  # {key: (data set, the task that alone reads it or EVERY)}


def task_key(dataset: str, task: str) -> str:
    """Return the key of a data set's rows as one task alone reads them."""
    return f"{dataset}@{task}"


def encoding_keys(
    datasets: Collection[str], routed: Collection[str], routes: Routes
) -> EncodingKeys:
    """Return what is encoded: a data set once, or, where it is routed, once for each task.

    Args:
        datasets: those of the step.
        routed: those of which an encoder has adapters per task.
        routes: {task: data sets}; a task's copies stand one after the other.
    """
    found = {name: (name, ALL_TASKS) for name in datasets if name not in routed}
    for task, names in routes.items():
        for name in names:
            if name in datasets and name in routed:
                found[task_key(name, task)] = name, task
    return found


def keys_of_task(keys: Collection[str], task: str, datasets: Sequence[str]) -> list[str]:
    """Return the keys under which a task finds its data sets' rows, in the same order."""
    return [key for name in datasets for key in (name, task_key(name, task)) if key in keys]


def disjoint_groups(routes: Routes) -> list[list[str]]:
    """Part data sets so that no task has some in two parts: the fewest data sets in each."""
    parts: list[list[str]] = []
    for names in routes.values():
        touched = [part for part in parts if set(part) & set(names)]
        merged = dict.fromkeys(name for part in [*touched, list(names)] for name in part)
        parts = [part for part in parts if part not in touched] + [list(merged)]
    return parts


Targets = Mapping[str, tuple[Tensor, Tensor]]  # {task: (targets (N, ...), present (N,))}


def targets_of(
    batches: Mapping[str, Batch], tasks: Sequence[str], routes: Routes
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return {task: (targets (N, ...), present (N,))} in the order of the task's route.

    Args:
        batches: {data set: rows}.
        tasks: those wanted, which have rows.
        routes: {task: data sets}.
    """
    found = {}
    for task in tasks:
        parts = [batches[name] for name in routes[task] if name in batches]
        targets = concat_targets([part.targets[task] for part in parts])
        found[task] = targets, torch.cat([part.present[task] for part in parts])
    return found


def concat_targets(targets: Sequence[Tensor]) -> Tensor:
    """Put the targets of several data sets under each other; those of words are padded with -1."""
    if len(targets) == 1:
        return targets[0]
    if targets[0].dim() == 2:
        widest = max(rows.shape[1] for rows in targets)
        targets = [functional.pad(r, (0, widest - r.shape[1]), value=-1) for r in targets]
    return torch.cat(list(targets))

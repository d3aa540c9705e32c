"""Whether each split has rows and labels of each task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations

import torch

from datamodules.dataset import Part
from datamodules.loading import TaskSpec
from pipeline.errors import PollinateError

COMMON = 0.5  # of the labels of the task that has fewer


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


def labelled_together(specs: Mapping[str, TaskSpec], parts: Mapping[str, Part]) -> bool:
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

"""Whether each split has rows and labels of each task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from datamodules.dataset import Part
from datamodules.loading import TaskSpec
from pipeline.errors import PollinateError


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

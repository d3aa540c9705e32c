"""What one training step receives."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass
class Batch:
    """Rows of one data set.

    inputs: {modality: (N, ...)}.
    targets: {task: (N, ...)}; a row without a label holds a placeholder.
    present: {task: (N,) bool}, True where the row has a label.
    index: (N,) int64, the rows' numbers in their split.
    """

    inputs: dict[str, Tensor]
    targets: dict[str, Tensor]
    present: dict[str, Tensor]
    index: Tensor


@dataclass
class MixedBatch:
    """Rows of several data sets, for one step.

    batches: {data set: its rows on this rank}.
    labelled: {task: rows with a label over all ranks}, >= 0. Known to every rank without
        communication, so all ranks agree on which tasks the step has and on each task's mean.
    """

    batches: dict[str, Batch]
    labelled: dict[str, int]

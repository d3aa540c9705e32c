"""What one training step receives."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from datamodules.features import Features


@dataclass
class CachedFeatures:
    """What the backbone of a frozen encoder made of rows, from disk.

    features: of the N_m rows, in the backbone's widths.
    whole: False where features of tokens and cells were left out, as nothing reads them.
    """

    features: Features
    whole: bool


@dataclass
class Batch:
    """Rows of one data set.

    inputs: {modality: (N_m, ...)}, the N_m <= N rows that have the modality, in order. Padding is
        part of the values: token id 0 in text, NaN frames in audio.
    targets: {task: (N, ...)}; a row without a label holds a placeholder.
    present: {task: (N,) bool}, True where the row has a label.
    index: (N,) int64, the rows' numbers in their split.
    has: {modality: (N,) bool}, True where the row has it; all rows have a modality not named here.
    words: {modality: (N_m, W) int64}, the place in the token sequence of each word's first token,
        -1 for a word that was cut off, -2 beyond the row's last word; only where a task needs it.
    kept: {modality: features of its N_m rows} in place of inputs, of frozen encoders.
    """

    inputs: dict[str, Tensor]
    targets: dict[str, Tensor]
    present: dict[str, Tensor]
    index: Tensor
    has: dict[str, Tensor] = field(default_factory=dict)
    words: dict[str, Tensor] = field(default_factory=dict)
    kept: dict[str, CachedFeatures] = field(default_factory=dict)

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities of the data set's rows."""
        return *self.inputs, *self.kept


@dataclass
class MixedBatch:
    """Rows of several data sets, for one step.

    batches: {data set: its rows on this rank}.
    labelled: {task: rows with a label over all ranks}, >= 0. Known to every rank without
        communication, so all ranks agree on which tasks the step has and on each task's mean.
    sizes: {data set: rows over all ranks}, >= 0.
    """

    batches: dict[str, Batch]
    labelled: dict[str, int]
    sizes: dict[str, int]

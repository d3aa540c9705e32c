"""The view contract: as what a task sees a data set's rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from datamodules.batch import Batch
from lightning_modules.features import Features


@dataclass
class Seen:
    """A data set's encoded rows.

    fused: features of all N rows.
    by_modality: {modality: features of the N_m rows that have it}.
    batch: what they were made from.
    """

    fused: Features
    by_modality: Mapping[str, Features]
    batch: Batch

    @property
    def size(self) -> int:
        """Number of rows N."""
        return len(self.batch.index)


class View(ABC):
    """Chooses what goes through the trunk for a task, and puts the head's outputs together.

    Attributes:
        words: whether ``Batch.words`` is needed.
        reads_tokens_of: modalities of which it looks at more than the pooled vectors.
    """

    words: bool = False
    reads_tokens_of: tuple[str, ...] = ()

    @abstractmethod
    def groups(self, seen: Seen) -> dict[str, Features]:
        """Return {group: features}: what the trunk takes as rows.

        "" stands for the rows as such.
        """

    @abstractmethod
    def output(self, head: nn.Module, rows: Tensor, seen: Sequence[Seen]) -> Tensor:
        """Return the task's output (N, ...).

        Args:
            head: the task's output layer.
            rows: what the trunk made of all groups, one after the other.
            seen: the task's data sets, in the same order.
        """

"""The contract of sources: what a model makes of the target's rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lightning_modules.transferability.base import Absent
from pipeline.ranking.target import Cells


@dataclass
class Block:
    """What one part of a source makes of rows.

    rows: (M,) places, sorted, of the rows that it could read; values: (M, ...) float64, theirs.
    """

    rows: np.ndarray
    values: Tensor

    def at(self, rows: np.ndarray) -> Tensor:
        """Return the values of rows that are here: (n, ...)."""
        return self.values[torch.from_numpy(np.searchsorted(self.rows, rows))]


@dataclass
class Represented:
    """What a source makes of rows.

    features: {part: (M, D)}; several where heads read different features.
    probabilities: {head: (M, S), of its S classes}.
    """

    features: dict[str, Block]
    probabilities: dict[str, Block | Absent]


class Source(ABC):
    """A model that a transfer could start from.

    Attributes:
        name: as the user wrote it.
        modalities: that it reads.
        rows: labelled training rows it has seen.
    """

    name: str
    modalities: Sequence[str]
    rows: int | Absent

    @abstractmethod
    def reads(self, modalities: Sequence[str]) -> bool:
        """Say whether it makes something of rows with these modalities."""

    @abstractmethod
    def parameters(self, modalities: Sequence[str]) -> int:
        """Return how many weights a transfer to a model of these modalities takes over."""

    @abstractmethod
    def represent(self, columns: Cells, batch_size: int) -> Represented:
        """Encode rows, by the source's own preprocessing.

        Args:
            columns: of modalities that it reads.
            batch_size: rows at a time, >= 1.
        """


def readable(source: Source, columns: Cells) -> Cells:
    """Return the columns that a source reads."""
    return {name: column for name, column in columns.items() if name in source.modalities}


def differing(source: Source, modalities: Sequence[str]) -> str:
    """Say how a source and rows with these modalities don't fit."""
    return f"{source.name} reads {' and '.join(source.modalities)}, not {' or '.join(modalities)}"

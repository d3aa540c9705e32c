"""The modality contract: raw column in, tensors of chosen rows out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from datamodules.columns import Column


class Store(ABC):
    """A prepared column: what training reads rows from.

    Attributes:
        has: (N,) bool, True where the row has a value; only such rows may be asked for.
    """

    has: np.ndarray

    def __len__(self) -> int:
        """Return the number of rows N."""
        return len(self.has)

    @abstractmethod
    def rows(self, rows: np.ndarray) -> Tensor:
        """Return the chosen rows as the encoder takes them, without augmentation: (n, ...)."""

    @abstractmethod
    def augmented(self, rows: np.ndarray, seed: int, passes: np.ndarray) -> Tensor:
        """Return the chosen rows augmented.

        Args:
            rows: (n,) row numbers.
            seed: the run's.
            passes: (n,) how often the data set had been gone through before each row came up.
                A row's augmentation is a pure function of (seed, pass, row).
        """

    def lengths(self) -> np.ndarray | None:
        """Return each row's length, (N,) int, where rows differ in it: tokens, frames."""
        return None

    def words(self, rows: np.ndarray) -> Tensor | None:
        """Return ``Batch.words`` of the chosen rows, (n, W) int64, if words are kept track of."""
        return None


@dataclass
class Prepared:
    """store: all N rows; errors: {row: why its value can't be read}; such rows lack a value."""

    store: Store
    errors: dict[int, str] = field(default_factory=dict)


class Modality(ABC):
    """Turns raw values into what an encoder takes; the same in training and in prediction."""

    @abstractmethod
    def fit(self, columns: Sequence[Iterable[Any]]) -> None:
        """Learn what must be learnt (a tokenizer) from the training rows of all data sets."""

    @abstractmethod
    def prepare(self, column: Column) -> Prepared:
        """Prepare a column of N raw values; an empty cell (None) is a row that lacks one."""

    @abstractmethod
    def encoder_arguments(self) -> dict[str, Any]:
        """What the encoder must know: vocab_size, in_channels."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Plain values that ``load_state_dict`` needs; part of every checkpoint."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what ``fit`` learnt in the run that made the checkpoint."""

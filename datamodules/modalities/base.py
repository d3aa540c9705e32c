"""The modality contract: raw column in, tensors of chosen rows out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from datamodules.columns import Column


class Store(ABC):
    """A prepared column: what training reads rows from."""

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of rows."""

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


class Modality(ABC):
    """Turns raw values into what an encoder takes; the same in training and in prediction."""

    @abstractmethod
    def fit(self, columns: Sequence[Column]) -> None:
        """Learn what must be learnt (a tokenizer) from the training rows of all data sets."""

    @abstractmethod
    def prepare(self, column: Column) -> Store:
        """Prepare a column of raw values."""

    @abstractmethod
    def encoder_arguments(self) -> dict[str, Any]:
        """What the encoder must know: vocab_size, in_channels."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Plain values that ``load_state_dict`` needs; part of every checkpoint."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what ``fit`` learnt in the run that made the checkpoint."""

"""The modality contract: raw column in, tensors of chosen rows out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from torch import Tensor

from datamodules.arrays import Arrays, FileArrays, MemoryArrays
from datamodules.cache import Cache
from datamodules.table import Column, SourceTable, take
from pollinate.errors import PollinateError

Maps = Mapping[str, Tensor]  # {name: (n, H, W)}, one value for each pixel of an image
FORMAT = 4  # of what the cache holds; raised when older entries can't be read


class InputStore(ABC):
    """A prepared column: what training reads rows from.

    Attributes:
        has: (N,) bool, True where the row has a value; only such rows may be asked for.
    """

    has: np.ndarray

    def __len__(self) -> int:
        return len(self.has)

    @abstractmethod
    def rows(self, rows: np.ndarray) -> Tensor:
        """Return the chosen rows as the encoder takes them, without augmentation: (n, ...)."""

    @abstractmethod
    def augmented(
        self, rows: np.ndarray, seed: int, passes: np.ndarray, numbers: np.ndarray | None = None
    ) -> Tensor:
        """Return the chosen rows augmented.

        Args:
            rows: (n,) row numbers.
            seed: the run's.
            passes: (n,) how often the data set had been gone through before each row came up.
                A row's augmentation is a pure function of (seed, pass, number).
            numbers: (n,) what a row's random numbers depend on; default: ``rows``.
        """

    def augmented_with_maps(
        self,
        rows: np.ndarray,
        seed: int,
        passes: np.ndarray,
        maps: Maps,
        numbers: np.ndarray | None = None,
    ) -> tuple[Tensor, Maps]:
        """Return the chosen rows augmented, and the maps on them, moved as they were.

        Args:
            rows, seed, passes, numbers: as for ``augmented``.
            maps: {name: (n, H, W)} on inputs of the same height and width.
        """
        return self.augmented(rows, seed, passes, numbers), maps

    def lengths(self) -> np.ndarray | None:
        """Return each row's length, (N,) int, where rows differ in it: tokens, frames."""
        return None

    def note(self) -> str | None:
        """Return what a user should know of the column, None if there is nothing."""
        return None

    def words(self, rows: np.ndarray) -> Tensor | None:
        """Return ``Batch.words`` of the chosen rows, (n, W) int64, if words are kept track of."""
        return None

    def terms(self, rows: np.ndarray) -> Tensor | None:
        """Return ``Batch.terms`` of the chosen rows, (n, M, 2) int32, if terms are counted."""
        return None


@dataclass
class PreparedInputs:
    """store: all N rows; errors: {row: why its value can't be read}; such rows lack a value."""

    store: InputStore
    errors: dict[int, str] = field(default_factory=dict)


class Modality(ABC):
    """Turns raw values into what an encoder takes; the same in training and in prediction.

    Attributes:
        arguments: those of the constructor, by name.
        assets: the preprocessing that a pre-trained encoder brings along; empty: none.
        unit: what ``InputStore.lengths`` counts, for people; scale: how many units a count of 1 is.
    """

    unit: str = ""
    scale: float = 1.0
    arguments: dict[str, Any]
    assets: dict[str, Any]

    def with_options(self, **changes: Any) -> Self:
        return type(self)(**{**self.arguments, **changes})

    def fit(self, columns: Sequence[Column]) -> None:  # noqa: B027  # optional
        """Learn what must be learnt (a tokenizer) from the training rows of all data sets."""

    def map_size(self) -> tuple[int, int] | None:
        """Return height and width of inputs that maps can lie on, None if they can't.

        Raises:
            UsageError: they could, but for what is done to inputs in training.
        """
        return None

    @abstractmethod
    def write(self, column: Column, arrays: Arrays) -> dict[int, str]:
        """Prepare a column of N raw values; an empty cell (None) is a row that lacks one.

        Returns:
            {row: why its value can't be read}; such rows lack a value, too.
        """

    @abstractmethod
    def read(self, arrays: Arrays) -> InputStore:
        """Return what was written."""

    @abstractmethod
    def random_keys(self) -> dict[str, Any]:
        """Return {key of the configuration: value} of what changes rows at random in training."""

    @abstractmethod
    def options(self) -> dict[str, Any]:
        """Return what ``write`` depends on besides the column, as plain values."""

    def prepare(self, column: Column) -> PreparedInputs:
        arrays = MemoryArrays()
        return PreparedInputs(errors=self.write(column, arrays), store=self.read(arrays))

    def prepare_cached(self, column: Column, cache: Cache, key: Any) -> PreparedInputs:
        """Prepare a column on disk, if that hasn't been done yet, and map the result into memory.

        Args:
            column: N raw values.
            cache: where results are kept.
            key: plain values that change when the column does.
        """

        def make(folder: Path) -> None:
            arrays = FileArrays(folder)
            arrays.put("errors", self.write(column, arrays))

        kind = type(self).__name__
        arrays = FileArrays(cache.get("inputs", [FORMAT, kind, self.options(), key], make))
        errors = {int(row): error for row, error in arrays.value("errors").items()}
        return PreparedInputs(self.read(arrays), errors)

    @abstractmethod
    def encoder_arguments(self) -> dict[str, Any]:
        """What the encoder must know: vocab_size, in_channels."""

    def state_dict(self) -> dict[str, Any]:
        """Plain values, part of every checkpoint: what came with the encoder, or was learnt."""
        return {"assets": self.assets} if self.assets else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: B027  # optional
        """Take over what ``fit`` learnt in the run that made the checkpoint."""


class StreamedStore(InputStore):
    """Prepares the chosen rows' cells, and forgets them.

    Args:
        modality: how.
        column: N raw cells, read when they are asked for.
        has: (N,) bool.
        table: says where a row is.
    """

    def __init__(
        self, modality: Modality, column: Column, has: np.ndarray, table: SourceTable
    ) -> None:
        self.modality = modality
        self.column = column
        self.has = has
        self.table = table
        self._last: tuple[bytes, InputStore] | None = None  # a batch asks for its words, too

    def rows(self, rows: np.ndarray) -> Tensor:
        """Return the chosen rows: (n, ...)."""
        return self._prepared(rows).rows(np.arange(len(rows)))

    def augmented(
        self, rows: np.ndarray, seed: int, passes: np.ndarray, numbers: np.ndarray | None = None
    ) -> Tensor:
        """Return the chosen rows augmented, as a store of all rows would: (n, ...)."""
        own = rows if numbers is None else numbers
        return self._prepared(rows).augmented(np.arange(len(rows)), seed, passes, own)

    def augmented_with_maps(
        self,
        rows: np.ndarray,
        seed: int,
        passes: np.ndarray,
        maps: Maps,
        numbers: np.ndarray | None = None,
    ) -> tuple[Tensor, Maps]:
        """Return the chosen rows augmented, and the maps on them."""
        own = rows if numbers is None else numbers
        return self._prepared(rows).augmented_with_maps(
            np.arange(len(rows)), seed, passes, maps, own
        )

    def words(self, rows: np.ndarray) -> Tensor | None:
        """Return ``Batch.words`` of the chosen rows."""
        return self._prepared(rows).words(np.arange(len(rows)))

    def terms(self, rows: np.ndarray) -> Tensor | None:
        """Return ``Batch.terms`` of the chosen rows."""
        return self._prepared(rows).terms(np.arange(len(rows)))

    def _prepared(self, rows: np.ndarray) -> InputStore:
        key = rows.tobytes()
        if self._last is None or self._last[0] != key:
            prepared = self.modality.prepare(list(take(self.column, rows)))
            for place, error in prepared.errors.items():
                where = self.table.place(int(rows[place]))
                raise PollinateError(
                    f"{where}: {error}; rows that are streamed can't be left out: mend it"
                )
            self._last = key, prepared.store
        return self._last[1]

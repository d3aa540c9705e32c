"""The tokenizer contract: texts, or pairs of them, in; token ids out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Encoded:
    """A row's tokens.

    ids: (length,) int64, length >= 1, none of them 0.
    places: (W,) int64 of each word's first token, -1 for a word that has none; W = 0 if words
        aren't kept track of.
    cut: whether tokens were left out at the end.
    """

    ids: np.ndarray
    places: np.ndarray
    cut: bool


class RowTokenizer(ABC):
    """Text to token ids; 0 is padding, whatever the model's own padding is.

    Attributes:
        special: ids that mean something to the model, and stay when tokens are left out at random.
    """

    special: tuple[int, ...] = ()

    @property
    @abstractmethod
    def vocab_size(self) -> int:
        """Number of ids, with padding."""

    @abstractmethod
    def rows(
        self,
        firsts: Sequence[str | list[str]],
        seconds: Sequence[str | None],
        max_length: int,
    ) -> Iterator[Encoded]:
        """Yield each row's tokens.

        Args:
            firsts: n texts; or n lists of words, whose places are kept track of then.
            seconds: the pairs' second texts; None: the row is no pair.
            max_length: tokens, >= 1; too long a pair loses those of the longer text first.
        """

    @abstractmethod
    def to_json(self) -> str:
        """Return everything as text, in the format of tokenizer.json."""

    def save(self, path: Path) -> None:
        """Write tokenizer.json."""
        path.write_text(self.to_json(), encoding="utf-8")

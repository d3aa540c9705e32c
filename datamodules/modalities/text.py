"""Text: token ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datamodules.columns import Column
from datamodules.modalities.base import Modality, Store
from datamodules.randomness import uniforms
from datamodules.text import Tokenizer, drop_tokens, pad, train
from pipeline.errors import UsageError


class TextModality(Modality):
    """Tokenises texts when they are loaded; leaves out random tokens in training.

    Args:
        vocab_size: tokens of the BPE tokenizer that is trained on the training split.
        max_length: tokens of a text that are kept, >= 1.
        dropout: share of tokens left out in training, in [0, 1).
    """

    def __init__(self, vocab_size: int, max_length: int, dropout: float = 0.0) -> None:
        if max_length < 1:
            raise UsageError(f"data.text.max_length must be >= 1 token, got {max_length}")
        if not 0 <= dropout < 1:
            raise UsageError(f"data.text.dropout must be in [0, 1), got {dropout}")
        self.vocab_size = vocab_size
        self.max_length = max_length
        self.dropout = dropout
        self._tokenizer: Tokenizer | None = None

    @property
    def tokenizer(self) -> Tokenizer:
        """The trained tokenizer."""
        assert self._tokenizer is not None, "fit or load_state_dict comes first"
        return self._tokenizer

    def fit(self, columns: Sequence[Column]) -> None:
        """Train the tokenizer."""
        self._tokenizer = train((as_text(v) for values in columns for v in values), self.vocab_size)

    def prepare(self, column: Column) -> Store:
        """Tokenise."""
        ids = self.tokenizer.encode([as_text(value) for value in column], self.max_length)
        return TextStore(ids, self.dropout)

    def encoder_arguments(self) -> dict[str, Any]:
        """Return the number of token ids."""
        return {"vocab_size": self.tokenizer.vocab_size}

    def state_dict(self) -> dict[str, Any]:
        """Return the tokenizer as text."""
        return {"tokenizer": self.tokenizer.to_json()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the tokenizer."""
        self._tokenizer = Tokenizer.from_json(state["tokenizer"])


class TextStore(Store):
    """ids: N arrays of token ids; dropout: share of tokens left out in training."""

    def __init__(self, ids: list[np.ndarray], dropout: float) -> None:
        self.ids = ids
        self.dropout = dropout

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, rows: np.ndarray) -> Tensor:
        """Return token ids, padded with 0 to the longest: (n, L) int64."""
        if not len(rows):
            return torch.zeros((0, 1), dtype=torch.int64)
        return pad([self.ids[row] for row in rows])

    def augmented(self, rows: np.ndarray, seed: int, passes: np.ndarray) -> Tensor:
        """Return token ids of which each was left out with probability ``dropout``: (n, L)."""
        ids = self.rows(rows)
        if not self.dropout or not len(rows):
            return ids
        numbers = uniforms(seed, passes, rows, count=ids.shape[1])
        lengths = torch.tensor([len(self.ids[row]) for row in rows])
        ids, kept = drop_tokens(ids, lengths, torch.from_numpy(numbers), self.dropout)
        return ids[:, : int(kept.max())]


def as_text(value: Any) -> str:
    """Return a cell as text; an empty cell is an empty text."""
    missing = value is None or (isinstance(value, float) and value != value)
    return "" if missing else str(value)

"""Text: token ids."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datamodules.arrays import Arrays
from datamodules.columns import Column, take
from datamodules.modalities.base import Modality, Store
from datamodules.progress import track
from datamodules.ragged import Ragged
from datamodules.randomness import uniforms
from datamodules.text import Tokenizer, drop_tokens, join_pair, pad, train
from pipeline.errors import UsageError

CHUNK = 4096  # texts that are tokenised at a time
BEYOND = -2  # where a row has no more words
MOST_TEXTS = 200_000  # that the tokenizer is trained on, evenly spaced


class TextModality(Modality):
    """Tokenises texts when they are loaded; leaves out random tokens in training.

    A cell is a text, a pair of texts (a tuple), or a list of words.

    Args:
        vocab_size: tokens of the BPE tokenizer that is trained on the training split.
        max_length: tokens of a text that are kept, >= 1.
        dropout: share of tokens left out in training, in [0, 1).
        words: whether the words' places among the tokens are kept, for tasks that label words.
    """

    unit = "tokens"

    def __init__(
        self, vocab_size: int, max_length: int, dropout: float = 0.0, words: bool = False
    ) -> None:
        if max_length < 1:
            raise UsageError(f"data.text.max_length must be >= 1 token, got {max_length}")
        if not 0 <= dropout < 1:
            raise UsageError(f"data.text.dropout must be in [0, 1), got {dropout}")
        if words and dropout:
            raise UsageError(
                f"data.text.dropout must be 0 where a task labels words, got {dropout}: "
                "a word that is left out can't be labelled"
            )
        self.vocab_size = vocab_size
        self.max_length = max_length
        self.dropout = dropout
        self.words = words
        self._tokenizer: Tokenizer | None = None

    @property
    def tokenizer(self) -> Tokenizer:
        """The trained tokenizer."""
        assert self._tokenizer is not None, "fit or load_state_dict comes first"
        return self._tokenizer

    def fit(self, columns: Sequence[Column]) -> None:
        """Train the tokenizer, on at most ``MOST_TEXTS`` cells, evenly spaced."""
        stride = max(1, -(-sum(map(len, columns)) // MOST_TEXTS))
        chosen = [take(column, np.arange(0, len(column), stride)) for column in columns]
        texts = (text for column in chosen for cell in column for text in texts_of(cell))
        self._tokenizer = train(texts, self.vocab_size)

    def write(self, column: Column, arrays: Arrays) -> dict[int, str]:
        """Tokenise."""
        has = arrays.create("has", (len(column),), bool)
        ids, starts = arrays.grow("ids", np.int32), arrays.grow("starts", np.int32)
        for row, (filled, tokens, places) in enumerate(self._encode(column)):
            has[row] = filled
            ids.append(tokens)
            starts.append(places)
        for rows in (ids, starts):
            rows.close()
        return {}

    def read(self, arrays: Arrays) -> Store:
        """Return the tokens."""
        starts = arrays.get_rows("starts") if self.words else None
        return TextStore(arrays.get_rows("ids"), arrays.get("has"), self.dropout, starts)

    def options(self) -> dict[str, Any]:
        """Return what the tokens depend on."""
        tokenizer = sha256(self.tokenizer.to_json().encode()).hexdigest()
        return {"tokenizer": tokenizer, "max_length": self.max_length, "words": self.words}

    def encoder_arguments(self) -> dict[str, Any]:
        """Return the number of token ids."""
        return {"vocab_size": self.tokenizer.vocab_size}

    def state_dict(self) -> dict[str, Any]:
        """Return the tokenizer as text."""
        return {"tokenizer": self.tokenizer.to_json()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the tokenizer."""
        self._tokenizer = Tokenizer.from_json(state["tokenizer"])

    def _encode(self, column: Column) -> Iterator[tuple[bool, np.ndarray, np.ndarray]]:
        """Yield whether each cell has text, its tokens, and where its words begin if kept."""
        chunks = range(0, len(column), CHUNK)
        for start in track(chunks, "tokenising") if len(chunks) > 1 else chunks:
            cells = column[start : start + CHUNK]
            firsts = [first_text(cell) for cell in cells]
            if self.words:
                split = [words_of(cell) for cell in firsts]
                encoded = self.tokenizer.encode_words(split, self.max_length)
            else:
                plain = self.tokenizer.encode([as_text(c) for c in firsts], self.max_length)
                encoded = [(ids, ids[:0]) for ids in plain]
            for cell, (ids, places) in zip(cells, encoded, strict=True):
                if isinstance(cell, tuple):
                    (second,) = self.tokenizer.encode([as_text(cell[1])], self.max_length)
                    ids = join_pair(ids, second, self.max_length)
                    places = np.where(places < np.argmax(ids == 2), places, -1)
                yield has_text(cell), ids, places


class TextStore(Store):
    """Token ids.

    Args:
        ids: N rows of token ids.
        has: (N,) bool.
        dropout: share of tokens left out in training.
        starts: N rows of the words' places among the tokens, or None.
    """

    def __init__(
        self, ids: Ragged, has: np.ndarray, dropout: float, starts: Ragged | None = None
    ) -> None:
        self.ids = ids
        self.has = has
        self.dropout = dropout
        self.starts = starts

    def rows(self, rows: np.ndarray) -> Tensor:
        """Return token ids, padded with 0 to the longest: (n, L) int64."""
        if not len(rows):
            return torch.zeros((0, 1), dtype=torch.int64)
        return pad([self.ids[row].astype(np.int64) for row in rows])

    def augmented(
        self, rows: np.ndarray, seed: int, passes: np.ndarray, numbers: np.ndarray | None = None
    ) -> Tensor:
        """Return token ids of which each was left out with probability ``dropout``: (n, L)."""
        own = rows if numbers is None else numbers
        ids = self.rows(rows)
        if not self.dropout or not len(rows):
            return ids
        draws = uniforms(seed, passes, own, count=ids.shape[1])
        lengths = torch.from_numpy(self.ids.starts[rows + 1] - self.ids.starts[rows])
        ids, kept = drop_tokens(ids, lengths, torch.from_numpy(draws), self.dropout)
        return ids[:, : int(kept.max())]

    def lengths(self) -> np.ndarray:
        """Return the numbers of tokens: (N,)."""
        return self.ids.lengths()

    def words(self, rows: np.ndarray) -> Tensor | None:
        """Return where the words begin, ``BEYOND`` the last -2: (n, W) int64."""
        if self.starts is None:
            return None
        if not len(rows):
            return torch.zeros((0, 0), dtype=torch.int64)
        places = [torch.from_numpy(self.starts[row].astype(np.int64)) for row in rows]
        return torch.nn.utils.rnn.pad_sequence(places, batch_first=True, padding_value=BEYOND)


def as_text(value: Any) -> str:
    """Return a cell as text; an empty cell is an empty text."""
    missing = value is None or (isinstance(value, float) and value != value)
    if isinstance(value, list):
        return " ".join(map(str, value))
    return "" if missing else str(value)


def first_text(cell: Any) -> Any:
    """Return the first text of a pair, or the cell itself."""
    return cell[0] if isinstance(cell, tuple) else cell


def words_of(cell: Any) -> list[str]:
    """Return a text's words: those of a list, or what stands between white space."""
    return [str(word) for word in cell] if isinstance(cell, list) else as_text(cell).split()


def texts_of(cell: Any) -> Iterator[str]:
    """Yield the texts of a cell: one, or two of a pair; none of an empty cell."""
    for text in cell if isinstance(cell, tuple) else (cell,):
        if written := as_text(text):
            yield written


def has_text(cell: Any) -> bool:
    """Say whether a cell has anything but white space; a pair needs one of its two."""
    return any(text.strip() for text in texts_of(cell))

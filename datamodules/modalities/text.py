"""Text: token ids."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from datamodules.arrays import Arrays, RaggedArray
from datamodules.counter_rng import uniforms
from datamodules.modalities.base import InputStore, Modality
from datamodules.modalities.text_pieces import TextPieces, text_pieces
from datamodules.modalities.tokenization import (
    BPETokenizer,
    PretrainedTokenizer,
    TokenizedRow,
    Tokenizer,
    drop_tokens,
    pad_tokens,
    train_bpe,
)
from datamodules.progress_bar import track
from datamodules.table import Column, as_text, take
from datamodules.terms import text_terms
from pollinate.errors import UsageError

HALF = re.compile("[\ud800-\udfff]")  # half a surrogate pair: UTF-8 has no bytes for it
CHUNK = 4096  # texts that are tokenised at a time
BEYOND = -2  # where a row has no more words
MOST_TEXTS = 200_000  # that the tokenizer is trained on, evenly spaced


class TextModality(Modality):
    """Tokenises texts when they are loaded; leaves out random tokens in training.

    A cell is a text, a pair of texts (a tuple), or a list of words.

    Args:
        vocab_size: tokens of the BPE tokenizer that is trained on the training split.
        max_length: tokens of a text that are kept, >= 1; no more than the encoder reads.
        dropout: share of tokens left out in training, in [0, 1).
        words: whether the words' places among the tokens are kept, for tasks that label words.
        assets: what a pre-trained encoder brings: its tokenizer, which is used instead of a
            trained one, its padding, and the most tokens that it reads; empty: nothing.
        tokenizer: one that was trained before, in the format of tokenizer.json; None: train one.
        wide: whether words and runs of characters are counted, for a linear model besides.
    """

    unit = "tokens"

    def __init__(
        self,
        vocab_size: int = 8000,
        max_length: int = 160,
        dropout: float = 0.0,
        words: bool = False,
        assets: Mapping[str, Any] | None = None,
        tokenizer: str | None = None,
        wide: bool = False,
    ) -> None:
        self.arguments = {
            "vocab_size": vocab_size,
            "max_length": max_length,
            "dropout": dropout,
            "words": words,
            "assets": assets,
            "tokenizer": tokenizer,
            "wide": wide,
        }
        if max_length < 1:
            raise UsageError(f"data.text.max_length must be >= 1 token, got {max_length}")
        if not 0 <= dropout < 1:
            raise UsageError(f"data.text.dropout must be in [0, 1), got {dropout}")
        if words and dropout:
            raise UsageError(
                f"data.text.dropout must be 0 where a task labels words, got {dropout}: "
                "a word that is left out can't be labelled"
            )
        if assets and tokenizer is not None:
            raise UsageError(
                "data.text.tokenizer must be left out where the encoder brings a tokenizer, as "
                "this pre-trained one does"
            )
        self.vocab_size = vocab_size
        self.assets = dict(assets or {})
        self.max_length = min(max_length, self.assets.get("limit") or max_length)
        self.dropout = dropout
        self.words = words
        self.wide = wide
        self._tokenizer: Tokenizer | None = None
        if tokenizer is not None:
            self._tokenizer = BPETokenizer.from_json(tokenizer)
        if self.assets:
            text, padding = self.assets["tokenizer"], self.assets["padding"]
            self._tokenizer = PretrainedTokenizer(text, padding, words)

    @property
    def tokenizer(self) -> Tokenizer:
        """The trained tokenizer, or the one that came with the encoder."""
        assert self._tokenizer is not None, "fit or load_state_dict comes first"
        return self._tokenizer

    def fit(self, columns: Sequence[Column]) -> None:
        if self._tokenizer is not None:
            return
        stride = max(1, -(-sum(map(len, columns)) // MOST_TEXTS))
        chosen = [take(column, np.arange(0, len(column), stride)) for column in columns]
        texts = (text for column in chosen for cell in column for text in texts_of(cell))
        self._tokenizer = train_bpe(texts, self.vocab_size)

    def write(self, column: Column, arrays: Arrays) -> dict[int, str]:
        """Tokenise; a cell that is no text is an error of its row."""
        errors: dict[int, str] = {}
        has = arrays.create("has", (len(column),), bool)
        ids, starts = arrays.grow("ids", np.int32), arrays.grow("starts", np.int32)
        cut = arrays.create("cut", (len(column),), np.int64)
        for row, (filled, found) in enumerate(self._encode(column, errors)):
            has[row] = filled
            ids.append(found.ids)
            starts.append(found.places)
            cut[row] = found.cut
        for rows in (ids, starts):
            rows.close()
        if self.wide:
            write_terms(column, arrays)
        return errors

    def read(self, arrays: Arrays) -> InputStore:
        starts = arrays.get_ragged("starts") if self.words else None
        ids, dropping = arrays.get_ragged("ids"), TokenDropout(self.dropout, self.tokenizer.special)
        terms = arrays.get_ragged("terms") if self.wide else None
        return TextStore(ids, arrays.get("has"), dropping, starts, arrays.get("cut"), terms)

    def random_keys(self) -> dict[str, Any]:
        return {"data.text.dropout": self.dropout} if self.dropout else {}

    def options(self) -> dict[str, Any]:
        tokenizer = sha256(self.tokenizer.to_json().encode()).hexdigest()
        counted = {"wide": True} if self.wide else {}
        return {
            "tokenizer": tokenizer,
            "max_length": self.max_length,
            "words": self.words,
            **counted,
        }

    def encoder_arguments(self) -> dict[str, Any]:
        """Return the number of token ids."""
        assets = {"assets": self.assets} if self.assets else {}
        return {"vocab_size": self.tokenizer.vocab_size, **assets}

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() or {"tokenizer": self.tokenizer.to_json()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the tokenizer; what came with the encoder was given at the start."""
        if not self.assets:
            self._tokenizer = BPETokenizer.from_json(state["tokenizer"])

    def pieces(self, cell: Any) -> TextPieces:
        """Return a cell, which has text, in pieces, and which of them its tokens come from."""
        first: str | list[str]
        if self.words:
            first = words_of(first_text(cell))
            text = " ".join(first)
        else:
            first = text = as_text(first_text(cell))
        second = as_text(cell[1]) if isinstance(cell, tuple) else None
        (found,) = self.tokenizer.spans([first], [second], self.max_length)
        places = found[:, 1:] + (found[:, :1] == 1) * (len(text) + 1)
        if second is not None:
            text = f"{text} {' '.join(second.split()) if self.words else second}"
        return text_pieces(text, places)

    def _encode(
        self, column: Column, errors: dict[int, str]
    ) -> Iterator[tuple[bool, TokenizedRow]]:
        """Yield whether each cell has text, and its tokens; note the rows whose cells are none."""
        chunks = range(0, len(column), CHUNK)
        for start in track(chunks, "tokenising") if len(chunks) > 1 else chunks:
            cells = column[start : start + CHUNK]
            wrong = {p: text for p, cell in enumerate(cells) if (text := text_problem(cell))}
            errors |= {start + place: text for place, text in wrong.items()}
            cells = [None if place in wrong else cell for place, cell in enumerate(cells)]
            parted: Callable[[Any], str | list[str]] = words_of if self.words else as_text
            firsts = [parted(first_text(cell)) for cell in cells]
            seconds = [as_text(cell[1]) if isinstance(cell, tuple) else None for cell in cells]
            found = self.tokenizer.rows(firsts, seconds, self.max_length)
            for cell, encoded in zip(cells, found, strict=True):
                yield has_text(cell), encoded


@dataclass(frozen=True)
class TokenDropout:
    """share: of tokens left out in training; special: ids that are never left out."""

    share: float = 0.0
    special: tuple[int, ...] = ()


WORTH_SAYING = 0.05  # share of all tokens that were cut, below which nothing is said of it


class TextStore(InputStore):
    """Token ids.

    Args:
        ids: N rows of token ids.
        has: (N,) bool.
        dropping: what is left out in training.
        starts: N rows of the words' places among the tokens, or None.
        cut: (N,) tokens that were left out of a text that was too long.
        counted: N rows of (M, 2), the terms' numbers and counts, or None.
    """

    def __init__(
        self,
        ids: RaggedArray,
        has: np.ndarray,
        dropping: TokenDropout,
        starts: RaggedArray | None,
        cut: np.ndarray,
        counted: RaggedArray | None = None,
    ) -> None:
        self.ids = ids
        self.has = has
        self.dropping = dropping
        self.starts = starts
        self.cut = cut
        self.counted = counted

    def rows(self, rows: np.ndarray) -> Tensor:
        """Return token ids, padded with 0 to the longest: (n, L) int64."""
        if not len(rows):
            return torch.zeros((0, 1), dtype=torch.int64)
        return pad_tokens([self.ids[row].astype(np.int64) for row in rows])

    def augmented(
        self, rows: np.ndarray, seed: int, passes: np.ndarray, numbers: np.ndarray | None = None
    ) -> Tensor:
        """Return token ids of which each was left out at random: (n, L)."""
        own = rows if numbers is None else numbers
        ids = self.rows(rows)
        if not self.dropping.share or not len(rows):
            return ids
        draws = torch.from_numpy(uniforms(seed, passes, own, count=ids.shape[1]))
        if self.dropping.special:
            draws[torch.isin(ids, torch.tensor(self.dropping.special))] = 1.0
        lengths = torch.from_numpy(self.ids.starts[rows + 1] - self.ids.starts[rows])
        ids, kept = drop_tokens(ids, lengths, draws, self.dropping.share)
        return ids[:, : int(kept.max())]

    def lengths(self) -> np.ndarray:
        """Return the numbers of tokens: (N,)."""
        return self.ids.lengths()

    def note(self) -> str | None:
        """Say how much was cut, if it is so much that it matters."""
        count, left_out = int((self.cut > 0).sum()), int(self.cut.sum())
        share = left_out / max(1, left_out + int(self.lengths().sum()))
        if share < WORTH_SAYING:
            return None
        most = int(self.lengths().max(initial=0))
        return (
            f"{count:,} of {len(self):,} texts are longer than {most} tokens: {share:.0%} of all "
            "tokens are cut; a larger data.text.max_length keeps more, up to what the encoder reads"
        )

    def words(self, rows: np.ndarray) -> Tensor | None:
        """Return where the words begin, ``BEYOND`` the last -2: (n, W) int64."""
        if self.starts is None:
            return None
        if not len(rows):
            return torch.zeros((0, 0), dtype=torch.int64)
        places = [torch.from_numpy(self.starts[row].astype(np.int64)) for row in rows]
        return torch.nn.utils.rnn.pad_sequence(places, batch_first=True, padding_value=BEYOND)

    def terms(self, rows: np.ndarray) -> Tensor | None:
        """Return the terms' numbers and counts, 0 beyond a row's last: (n, M, 2) int32."""
        if self.counted is None:
            return None
        if not len(rows):
            return torch.zeros((0, 0, 2), dtype=torch.int32)
        found = [torch.from_numpy(np.array(self.counted[row])) for row in rows]
        return torch.nn.utils.rnn.pad_sequence(found, batch_first=True)


def write_terms(column: Column, arrays: Arrays) -> None:
    """Count the terms of a column's texts; all of a text count, however long it is."""
    found = arrays.grow("terms", np.int32, (2,))
    for start in range(0, len(column), CHUNK):
        cells = column[start : start + CHUNK]
        for numbers, counts in text_terms([" ".join(texts_of(cell)) for cell in cells]):
            found.append(np.stack([numbers, counts.astype(np.int32)], axis=1))
    found.close()


def text_problem(cell: Any) -> str:
    """Say why a cell is no text, pair of texts or list of words; nothing is an empty text."""
    if isinstance(cell, tuple):
        if len(cell) != 2:
            return f"must be a text or a pair of texts, got {len(cell)} of them"
        return text_problem(cell[0]) or text_problem(cell[1])
    if isinstance(cell, np.ndarray | Tensor | Mapping | set | Image.Image):
        return f"must be a text or a list of words, got {type(cell).__name__}"
    for text in cell if isinstance(cell, list) else [cell]:
        if isinstance(text, str) and not text.isascii() and (half := HALF.search(text)):
            return (
                f"must be Unicode, got half a surrogate pair, {half[0]!a}, as character "
                f"{half.start() + 1}; it was cut or decoded wrongly"
            )
    return ""


def first_text(cell: Any) -> Any:
    return cell[0] if isinstance(cell, tuple) else cell


def words_of(cell: Any) -> list[str]:
    """Return a text's words: those of a list, or what stands between white space."""
    return [str(word) for word in cell] if isinstance(cell, list) else as_text(cell).split()


def texts_of(cell: Any) -> Iterator[str]:
    """Yield the texts of a cell: one, or two of a pair; none of an empty cell, or of no text."""
    if text_problem(cell):
        return
    for text in cell if isinstance(cell, tuple) else (cell,):
        if written := as_text(text):
            yield written


def has_text(cell: Any) -> bool:
    """Say whether a cell has anything but white space; a pair needs one of its two."""
    return any(text.strip() for text in texts_of(cell))

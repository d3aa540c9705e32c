"""Tokenizers: texts, or pairs of them, in; token ids out."""

from __future__ import annotations

import json
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import torch
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor

from pollinate.errors import PollinateError, UsageError
from pollinate.files import write_text
from pollinate.foreign import parse_json

MOST_TOKENS = 10_000_000  # values that a tokenizer.json may hold


@dataclass(frozen=True)
class TokenizedRow:
    """A row's tokens.

    ids: (length,) int64, length >= 1, none of them 0.
    places: (W,) int64 of each word's first token, -1 for a word that has none; W = 0 if words
        aren't kept track of.
    cut: tokens that were left out, as the row is too long.
    """

    ids: np.ndarray
    places: np.ndarray
    cut: int


class Tokenizer(ABC):
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
    ) -> Iterator[TokenizedRow]:
        """Yield each row's tokens.

        Args:
            firsts: n texts; or n lists of words, whose places are kept track of then.
            seconds: the pairs' second texts; None: the row is no pair.
            max_length: tokens, >= 1; too long a pair loses those of the longer text first.
        """

    @abstractmethod
    def spans(
        self,
        firsts: Sequence[str | list[str]],
        seconds: Sequence[str | None],
        max_length: int,
    ) -> Iterator[np.ndarray]:
        """Yield where each token of ``rows`` comes from: (length, 3) int64.

        That is 0 for the first text and 1 for the second, and the characters of its first and
        behind its last; -1 three times for a token that stands for none. A list of words counts as
        the words with a space between two.
        """

    @abstractmethod
    def to_json(self) -> str:
        """Return everything as text, in the format of tokenizer.json."""

    def save(self, path: Path) -> None:
        write_text(path, self.to_json())


# Workers fork after the tokenizer was used; its thread pool would not survive that.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

PAD, UNKNOWN, SEPARATOR = "[PAD]", "[UNK]", "[SEP]"
PAD_ID, UNKNOWN_ID, SEPARATOR_ID = 0, 1, 2


class BPETokenizer(Tokenizer):
    """Text to token ids and back; one text always gives at least one token.

    Args:
        core: a tokenizer whose id 0 is padding, 1 is unknown and 2 parts the texts of a pair.
    """

    def __init__(self, core: tokenizers.Tokenizer) -> None:
        for number, token in ((PAD_ID, PAD), (UNKNOWN_ID, UNKNOWN), (SEPARATOR_ID, SEPARATOR)):
            if core.token_to_id(token) != number:
                found = core.id_to_token(number)
                raise ValueError(f"token {number} must be {token}, got {found}; use text.train")
        self._core = core

    @property
    def vocab_size(self) -> int:
        """Number of distinct tokens, with padding, unknown and separator."""
        return self._core.get_vocab_size()

    def rows(
        self,
        firsts: Sequence[str | list[str]],
        seconds: Sequence[str | None],
        max_length: int,
    ) -> Iterator[TokenizedRow]:
        """Yield each row's tokens, the texts of a pair parted by the separator."""
        whole = sys.maxsize  # how much is cut is to be known
        lists = [first for first in firsts if isinstance(first, list)]
        texts = [first for first in firsts if isinstance(first, str)]
        nowhere = np.empty(0, dtype=np.int64)
        encoded = self.encode_words(lists, whole) if lists else []
        encoded += [(ids, nowhere) for ids in self.encode(texts, whole)] if texts else []
        for (ids, places), second in zip(encoded, seconds, strict=True):
            end, length = max_length, len(ids)
            if second is not None:
                (other,) = self.encode([second], whole)
                length += 1 + len(other)
                ids = join_pair(ids, other, max_length)
                end = int(np.argmax(ids == SEPARATOR_ID))
            places = np.where(places < end, places, -1)
            yield TokenizedRow(ids[:max_length], places, max(0, length - max_length))

    def spans(
        self,
        firsts: Sequence[str | list[str]],
        seconds: Sequence[str | None],
        max_length: int,
    ) -> Iterator[np.ndarray]:
        """Yield where the tokens come from."""
        for first, second in zip(firsts, seconds, strict=True):
            own = self._side(first, 0)
            if second is None:
                yield own[:max_length]
                continue
            # numbers in place of ids, from the separator's on
            other, begin = self._side(second, 1), SEPARATOR_ID + 1
            middle = begin + len(own)
            joined = join_pair(
                np.arange(begin, middle), np.arange(middle, middle + len(other)), max_length
            )
            table = np.concatenate([np.full((begin, 3), -1), own, other])
            yield table[joined[:max_length]]

    def _side(self, text: str | list[str], side: int) -> np.ndarray:
        """Return where the tokens of one text come from: (length, 3)."""
        encoding = self._core.encode(text, is_pretokenized=isinstance(text, list))
        found = token_places(encoding, [text], [0] * len(encoding.ids))
        found[found[:, 0] == 0, 0] = side
        return found

    def encode(self, texts: Sequence[str], max_length: int) -> list[np.ndarray]:
        """Return each text's first ``max_length`` tokens: n arrays (length,) int64, length >= 1."""
        ids = (encoding.ids[:max_length] for encoding in self._core.encode_batch_fast(list(texts)))
        return [np.array(row or [UNKNOWN_ID], dtype=np.int64) for row in ids]

    def encode_words(
        self, texts: Sequence[Sequence[str]], max_length: int
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return each text's first ``max_length`` tokens and where its words begin among them.

        Args:
            texts: n lists of words.
            max_length: tokens, >= 1.

        Returns:
            n pairs: ids (length,) int64, length >= 1; places (W,) int64 of each word's first token,
            -1 for a word that was cut off or has no token.
        """
        # the fast variant does not know which word a token is from
        encodings = self._core.encode_batch([list(t) for t in texts], is_pretokenized=True)
        found = []
        for words, encoding in zip(texts, encodings, strict=True):
            places = np.full(len(words), -1, dtype=np.int64)
            numbers = encoding.word_ids[:max_length]
            for place in range(len(numbers) - 1, -1, -1):
                places[numbers[place]] = place
            ids = encoding.ids[:max_length] or [UNKNOWN_ID]
            found.append((np.array(ids, dtype=np.int64), places))
        return found

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text that the tokens stand for, as far as normalising kept it."""
        return self._core.decode(list(ids))

    def to_json(self) -> str:
        return self._core.to_str()

    @classmethod
    def from_json(cls, text: str) -> BPETokenizer:
        return cls(read_tokenizer(text))

    @classmethod
    def load(cls, path: Path) -> BPETokenizer:
        return cls.from_json(path.read_text(encoding="utf-8"))


def read_tokenizer(text: str) -> tokenizers.Tokenizer:
    """Return the tokenizer that a tokenizer.json holds.

    Raises:
        PollinateError: the package tokenizers refuses it, or panics.
    """
    try:
        return tokenizers.Tokenizer.from_str(text)
    except BaseException as error:
        # a panic of its Rust code is a BaseException of a type that can't be imported
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        reason = " ".join(str(error).split())
        raise PollinateError(
            f"the tokenizer can't be read: {reason}; it must be what tokenizers wrote, as "
            "tokenizer.json of a run or of a model"
        ) from error


def train_bpe(texts: Iterable[str], vocab_size: int) -> BPETokenizer:
    """Learn a byte-level BPE vocabulary; the same texts always give the same one.

    Text is normalised (NFKC, HTML tags and runs of white space to one space, lower case), parted
    into words, numbers and punctuation, and merged within these only. All 256 bytes are tokens, so
    text of any script can be encoded. Source: Sennrich et al. 2016; Radford et al. 2019, part 2.2.

    Args:
        texts: of the training split only.
        vocab_size: most tokens, >= 259; few texts give fewer.
    """
    smallest = 256 + 3
    if vocab_size < smallest:
        raise UsageError(
            f"data.text.vocab_size must be >= {smallest} (bytes, {PAD}, {UNKNOWN}, {SEPARATOR}), "
            f"got {vocab_size}"
        )
    core = tokenizers.Tokenizer(models.BPE(unk_token=UNKNOWN))
    core.normalizer = normalizers.Sequence(
        [
            normalizers.NFKC(),
            normalizers.Replace(Regex(r"</?\w[^<>]*>"), " "),
            normalizers.Replace(Regex(r"\s+"), " "),
            normalizers.Strip(),
            normalizers.Lowercase(),
        ]
    )
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PAD, UNKNOWN, SEPARATOR],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    return BPETokenizer(core)


def pad_tokens(rows: Sequence[np.ndarray]) -> Tensor:
    """Put rows of token ids under each other: n arrays (length,) -> (n, longest) int64."""
    return torch.nn.utils.rnn.pad_sequence(
        [torch.from_numpy(row) for row in rows], batch_first=True, padding_value=PAD_ID
    )


def join_pair(first: np.ndarray, second: np.ndarray, max_length: int) -> np.ndarray:
    """Put two texts' tokens into one row, a separator between them: (length,) int64.

    Too long a pair loses tokens from the end of the longer text first.
    """
    room = max(max_length - 1, 2)
    longest_second = max(room - len(first), room // 2)
    second = second[: min(len(second), longest_second)]
    return np.concatenate([first[: room - len(second)], [SEPARATOR_ID], second])


def drop_tokens(
    ids: Tensor, lengths: Tensor, uniforms: Tensor, share: float
) -> tuple[Tensor, Tensor]:
    """Leave out tokens at random; the rest move together, in order. A row keeps at least one.

    Args:
        ids: (N, L) int64, padded at the end.
        lengths: (N,) tokens of each row, >= 1.
        uniforms: (N, L) in [0, 1): token j of row i is left out if uniforms[i, j] < share.
        share: of tokens left out, in [0, 1].

    Returns:
        ids (N, L) and lengths (N,).
    """
    places = torch.arange(ids.shape[1], device=ids.device)
    real = places < lengths[:, None]
    luckiest = uniforms.masked_fill(~real, -1.0).argmax(dim=1)
    keep = real & ((uniforms >= share) | (places == luckiest[:, None]))
    order = (~keep).to(torch.uint8).argsort(dim=1, stable=True)
    return ids.masked_fill(~keep, PAD_ID).gather(1, order), keep.sum(dim=1)


class PretrainedTokenizer(Tokenizer):
    """A model's own tokens, with the special tokens that it wants round a text and between two.

    Where the model's padding isn't id 0, all ids are one more than the model's, so that 0 is free;
    its encoder takes the one off again.

    Args:
        text: the content of tokenizer.json.
        padding: the model's id of padding, or None.
        words: whether lists of words will come.
    """

    def __init__(self, text: str, padding: int | None, words: bool = False) -> None:
        self.text = text
        self.shift = padding_shift(padding)
        self._core = read_tokenizer(tokenizer_with_spaces(text) if words else text)
        self._core.no_padding()
        added = self._core.get_added_tokens_decoder()
        self.special = tuple(n + self.shift for n, token in added.items() if token.special)

    @property
    def vocab_size(self) -> int:
        """Number of ids, with padding."""
        ids = self._core.get_vocab(with_added_tokens=True).values()
        return max(ids) + 1 + self.shift

    def rows(
        self,
        firsts: Sequence[str | list[str]],
        seconds: Sequence[str | None],
        max_length: int,
    ) -> Iterator[TokenizedRow]:
        """Yield each row's tokens."""
        words = bool(firsts) and isinstance(firsts[0], list)
        encodings = self._encode(firsts, seconds, max_length)
        for first, encoding in zip(firsts, encodings, strict=True):
            ids = np.array(encoding.ids or [1 - self.shift], dtype=np.int64) + self.shift
            places = np.full(len(first) if words else 0, -1, dtype=np.int64)
            if words:
                place_words(places, encoding)
            cut = sum(part.special_tokens_mask.count(0) for part in encoding.overflowing)
            yield TokenizedRow(ids, places, cut)

    def spans(
        self,
        firsts: Sequence[str | list[str]],
        seconds: Sequence[str | None],
        max_length: int,
    ) -> Iterator[np.ndarray]:
        """Yield where the tokens come from."""
        encodings = self._encode(firsts, seconds, max_length)
        for first, second, encoding in zip(firsts, seconds, encodings, strict=True):
            parted = isinstance(first, list) and second is not None
            other = second.split() if parted and second is not None else second or ""
            yield token_places(encoding, [first, other], encoding.sequence_ids)

    def _encode(
        self, firsts: Sequence[str | list[str]], seconds: Sequence[str | None], max_length: int
    ) -> list[tokenizers.Encoding]:
        least = self._core.num_special_tokens_to_add(is_pair=True) + 2
        if max_length < least:
            raise UsageError(
                f"data.text.max_length must be >= {least}, which the model's special tokens and "
                f"two texts need, got {max_length}"
            )
        self._core.enable_truncation(max_length)
        words = bool(firsts) and isinstance(firsts[0], list)
        inputs = [
            first if second is None else (first, second.split() if words else second)
            for first, second in zip(firsts, seconds, strict=True)
        ]
        found: list[tokenizers.Encoding] = self._core.encode_batch(inputs, is_pretokenized=words)
        return found

    def to_json(self) -> str:
        return self.text


def padding_shift(padding: int | None) -> int:
    """Return what is added to a model's ids so that 0 is padding and nothing else."""
    return 0 if padding == 0 else 1


def place_words(places: np.ndarray, encoding: tokenizers.Encoding) -> None:
    sides = encoding.sequence_ids
    for place, word in reversed(list(enumerate(encoding.word_ids))):
        if word is not None and sides[place] == 0:
            places[word] = place


def token_places(
    encoding: tokenizers.Encoding, texts: Sequence[str | list[str]], sides: Sequence[int | None]
) -> np.ndarray:
    """Return where tokens come from, (length, 3), at least one; see ``Tokenizer.spans``.

    Args:
        encoding: of the texts.
        texts: one, or two of a pair; lists of words have the words' own characters.
        sides: which text each token is of, from 0; None: of none.
    """
    begins = [word_begins(text) if isinstance(text, list) else None for text in texts]
    found = []
    for side, (start, end), word in zip(sides, encoding.offsets, encoding.word_ids, strict=True):
        if side is None or word is None or start == end:
            found.append((-1, -1, -1))
            continue
        own = begins[side]
        before = 0 if own is None else own[word]
        found.append((side, before + start, before + end))
    return np.array(found or [(-1, -1, -1)], dtype=np.int64)


def word_begins(words: Sequence[str]) -> list[int]:
    """Return the character at which each word begins, a space between two of them."""
    ends = accumulate(len(word) + 1 for word in words)
    return [0, *ends][: len(words)]


def tokenizer_with_spaces(text: str) -> str:
    """Return a tokenizer that takes each word of a list as one that follows a space.

    Byte-level tokenizers write a word at the start of a text in another way.
    """
    found = parse_json(text, MOST_TOKENS)
    return json.dumps({**found, "pre_tokenizer": with_prefix_space(found["pre_tokenizer"])})


def with_prefix_space(node: Any) -> Any:
    """Switch the space on in every byte-level step of a pre-tokenizer's description."""
    if isinstance(node, list):
        return [with_prefix_space(item) for item in node]
    if not isinstance(node, Mapping):
        return node
    own = {"add_prefix_space": True} if node.get("type") == "ByteLevel" else {}
    return {**{key: with_prefix_space(value) for key, value in node.items()}, **own}

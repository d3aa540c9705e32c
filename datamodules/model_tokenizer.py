"""The tokenizer that comes with a pre-trained model."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tokenizers

from datamodules.tokenizer import Encoded, RowTokenizer
from pipeline.errors import UsageError

# Workers fork after the tokenizer was used; its thread pool would not survive that.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


class ModelTokenizer(RowTokenizer):
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
        self.shift = shift_of(padding)
        self._core = tokenizers.Tokenizer.from_str(with_spaces(text) if words else text)
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
    ) -> Iterator[Encoded]:
        """Yield each row's tokens.

        Raises:
            UsageError: max_length leaves no room for anything but special tokens.
        """
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
        encodings = self._core.encode_batch(inputs, is_pretokenized=words)
        for first, encoding in zip(firsts, encodings, strict=True):
            ids = np.array(encoding.ids or [1 - self.shift], dtype=np.int64) + self.shift
            places = np.full(len(first) if words else 0, -1, dtype=np.int64)
            if words:
                place_words(places, encoding)
            yield Encoded(ids, places, bool(encoding.overflowing))

    def to_json(self) -> str:
        """Return the model's own tokenizer.json."""
        return self.text


def shift_of(padding: int | None) -> int:
    """Return what is added to a model's ids so that 0 is padding and nothing else."""
    return 0 if padding == 0 else 1


def place_words(places: np.ndarray, encoding: tokenizers.Encoding) -> None:
    """Fill in where the words of the first text begin."""
    sides = encoding.sequence_ids
    for place, word in reversed(list(enumerate(encoding.word_ids))):
        if word is not None and sides[place] == 0:
            places[word] = place


def with_spaces(text: str) -> str:
    """Return a tokenizer that takes each word of a list as one that follows a space.

    Byte-level tokenizers write a word at the start of a text in another way.
    """
    found = json.loads(text)
    return json.dumps({**found, "pre_tokenizer": spaced(found["pre_tokenizer"])})


def spaced(node: Any) -> Any:
    """Switch the space on in every byte-level step of a pre-tokenizer's description."""
    if isinstance(node, list):
        return [spaced(item) for item in node]
    if not isinstance(node, Mapping):
        return node
    own = {"add_prefix_space": True} if node.get("type") == "ByteLevel" else {}
    return {**{key: spaced(value) for key, value in node.items()}, **own}

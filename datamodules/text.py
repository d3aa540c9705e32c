"""Text as token ids: a byte-pair-encoding tokenizer, and dropping tokens at random."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import tokenizers
import torch
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor

from datamodules.tokenizer import Encoded, RowTokenizer
from pipeline.errors import UsageError

# Workers fork after the tokenizer was used; its thread pool would not survive that.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

PAD, UNKNOWN, SEPARATOR = "[PAD]", "[UNK]", "[SEP]"
PAD_ID, UNKNOWN_ID, SEPARATOR_ID = 0, 1, 2


class Tokenizer(RowTokenizer):
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
    ) -> Iterator[Encoded]:
        """Yield each row's tokens, the texts of a pair parted by the separator."""
        whole = max_length + 1  # one more than fits shows that something was cut
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
            yield Encoded(ids[:max_length], places, length > max_length)

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
        """Return everything as text, in the format of tokenizer.json."""
        return self._core.to_str()

    @classmethod
    def from_json(cls, text: str) -> Tokenizer:
        """Undo ``to_json``."""
        return cls(tokenizers.Tokenizer.from_str(text))

    @classmethod
    def load(cls, path: Path) -> Tokenizer:
        """Read tokenizer.json."""
        return cls.from_json(path.read_text(encoding="utf-8"))


def train(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Learn a byte-level BPE vocabulary; the same texts always give the same one.

    Text is normalised (NFKC, HTML tags and runs of white space to one space, lower case), parted
    into words, numbers and punctuation, and merged within these only. All 256 bytes are tokens, so
    text of any script can be encoded. Source: Sennrich et al. 2016; Radford et al. 2019, part 2.2.

    Args:
        texts: of the training split only.
        vocab_size: most tokens, >= 259; few texts give fewer.

    Raises:
        UsageError: it is smaller.
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
    return Tokenizer(core)


def pad(rows: Sequence[np.ndarray]) -> Tensor:
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

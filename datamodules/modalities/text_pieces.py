"""A text as the parts that people read, and which of them tokens and terms come from."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from datamodules.terms import TAG, UNSPACED_SCRIPTS, Occurrences, plain_origins, term_places


@dataclass(frozen=True)
class TextPieces:
    """A text in P pieces: words, marks at their ends, and characters of scripts without spaces.

    text: as it is shown; the texts of a pair have a space between them.
    spans: (P, 2) int64, each piece's first character and the one behind its last.
    tokens: (L, P) float32, the share of each token that is of each piece: rows of sum 1, or 0 for a
        token that stands for no character.
    """

    text: str
    spans: np.ndarray
    tokens: np.ndarray

    @property
    def names(self) -> list[str]:
        """What is written in each piece."""
        return [self.text[start:end] for start, end in self.spans.tolist()]

    def terms(self) -> tuple[Occurrences, np.ndarray]:
        """Return the text's terms, M occurrences, and their shares of the pieces: (M, P)."""
        found, origins = term_places(self.text), plain_origins(self.text)
        spans = np.stack([found.starts, found.ends], axis=1)
        return found, piece_shares(spans, self.spans, len(self.text), origins)


def text_pieces(text: str, tokens: np.ndarray) -> TextPieces:
    """Part a text.

    Args:
        text: any.
        tokens: (L, 2) int64, the characters in it that each token stands for; -1 for none.
    """
    spans = np.array([*piece_spans(text)], dtype=np.int64).reshape(-1, 2)
    return TextPieces(text, spans, piece_shares(tokens, spans, len(text)))


def piece_spans(text: str) -> Iterator[tuple[int, int]]:
    """Yield where the pieces of a text begin and end; a tag of HTML is one."""
    start = 0
    for tag in [*TAG.finditer(text), None]:
        end = len(text) if tag is None else tag.start()
        for part in re.finditer(r"\S+", text[start:end]):
            yield from word_spans(text, start + part.start(), start + part.end())
        if tag is not None:
            yield tag.span()
            start = tag.end()


def word_spans(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the pieces of what stands between spaces: marks at both ends, and what they enclose."""
    first, last = start, end
    while first < end and is_mark(text[first]):
        first += 1
    while last > first and is_mark(text[last - 1]):
        last -= 1
    yield from ((place, place + 1) for place in range(start, first))
    begin = first
    for place in range(first, last):
        if unicodedata.name(text[place], "").startswith(UNSPACED_SCRIPTS):
            if place > begin:
                yield begin, place
            yield place, place + 1
            begin = place + 1
    if last > begin:
        yield begin, last
    yield from ((place, place + 1) for place in range(last, end))


def is_mark(character: str) -> bool:
    """Say whether a character is punctuation or a symbol."""
    return unicodedata.category(character)[0] in "PS"


def piece_shares(
    spans: np.ndarray, pieces: np.ndarray, length: int, origins: np.ndarray | None = None
) -> np.ndarray:
    """Return the share of each of M spans' characters that is of each of P pieces: (M, P) float32.

    Spaces don't count, but for a span of nothing else, which is of the piece before it.

    Args:
        spans: (M, 2) int64; -1: of nothing, and of no piece.
        pieces: (P, 2) int64.
        length: characters of the text.
        origins: (P',) which character of the text each one is that the spans count; None: its own.
    """
    owner = np.full(length, -1)
    for number, (start, end) in enumerate(pieces.tolist()):
        owner[start:end] = number
    nearest = np.maximum.accumulate(owner).clip(0) if length else owner
    if origins is not None:
        owner, nearest = owner[origins], nearest[origins]
    found = np.zeros((len(spans), len(pieces)), np.float32)
    for number, (start, end) in enumerate(spans.tolist()):
        if start < 0 or not len(pieces):
            continue
        own = owner[start:end]
        own = own[own >= 0]
        if not len(own):
            own = nearest[start : start + 1]
        np.add.at(found[number], own, np.float32(1 / len(own)))
    return found

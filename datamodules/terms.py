"""Terms of texts by number: words, pairs of words, and runs of characters, hashed."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

WORD_TERMS = 1 << 20  # numbers of words and pairs of words; those of characters come after them
TERMS = 2 * WORD_TERMS
SHORTEST, LONGEST = 2, 5  # characters of a run within a word
LONGEST_UNSPACED = 3  # in scripts that put no spaces between words
UNSPACED_SCRIPTS = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR")
MOST_CHARACTERS = 1 << 18  # of the texts that are looked at together
MOST_COUNTED = 255  # times that a term is counted in a text
SPACE = 32
TAG = re.compile(r"</?[^\W\d_][^<>]*>")  # of HTML
BASE = np.uint64(0x9E3779B97F4A7C15)  # odd: it has an inverse modulo 2^64


def text_terms(texts: Sequence[str]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield each text's terms: their numbers, (M,) int32 in [0, TERMS), rising, and counts (M,).

    Words are runs of letters, digits and ``_``; any other character that is no space is a word of
    its own, and so is one of a script without spaces. Of words the terms are single ones and pairs
    of neighbours. Of characters they are runs of 2 to 5 between spaces, the space before and after
    included; of 1 to 3 where one of them is of a script without spaces. Numbers are hashes, taken
    modulo 2^20 for words and for characters apart. Source: Weinberger et al. 2009 (hashing).

    Args:
        texts: of any script; they are normalised (NFKC, lower case, single spaces, no HTML tags).
    """
    plain = [plain_text(text) for text in texts]
    ends = np.cumsum([len(text) for text in plain])
    first = 0
    while first < len(plain):  # some at a time, and at least one
        most = MOST_CHARACTERS + (ends[first - 1] if first else 0)
        last = max(first + 1, int(np.searchsorted(ends, most, side="right")))
        yield from some_terms(plain[first:last])
        first = last


def count_terms(texts: Sequence[str]) -> sparse.csr_matrix:
    """Return the texts' terms, (N, TERMS) float32: how often each has which."""
    found = list(text_terms(texts))
    starts = np.cumsum([0, *(len(numbers) for numbers, _ in found)])
    empty = np.zeros(0, np.int32)
    numbers = np.concatenate([empty, *(own for own, _ in found)])
    counts = np.concatenate([empty, *(own for _, own in found)]).astype(np.float32)
    return sparse.csr_matrix((counts, numbers, starts), (len(texts), TERMS))


def some_terms(texts: Sequence[str]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the terms of normalised texts; takes some hundred bytes for each character."""
    codes, starts = codepoints(texts)
    kinds = CharacterKinds(codes)
    hashes = SubstringHashes(codes)
    rows = np.repeat(np.arange(len(texts)), np.diff(starts))
    found = [*word_terms(kinds, hashes, rows), *character_terms(kinds, hashes, rows)]
    keys = np.concatenate([one.rows * TERMS + one.numbers for one in found])
    keys, counts = np.unique(keys, return_counts=True)
    ends = np.searchsorted(keys, np.arange(1, len(texts) + 1) * TERMS)
    first = 0
    for end in ends.tolist():
        own = slice(first, end)
        yield (
            (keys[own] % TERMS).astype(np.int32),
            np.minimum(counts[own], MOST_COUNTED).astype(np.uint8),
        )
        first = end


def term_places(text: str) -> Occurrences:
    """Return each occurrence of a text's terms, and where it stands in ``plain_text``."""
    codes, _ = codepoints([plain_text(text)])
    kinds, hashes = CharacterKinds(codes), SubstringHashes(codes)
    rows = np.zeros(len(codes), np.int64)
    found = [*word_terms(kinds, hashes, rows), *character_terms(kinds, hashes, rows)]
    # a space stands before and after the text
    return Occurrences(
        np.concatenate([one.rows for one in found]),
        np.concatenate([one.numbers for one in found]),
        np.concatenate([one.starts for one in found]).clip(1) - 1,
        np.concatenate([one.ends for one in found]).clip(max=len(codes) - 1) - 1,
    )


UNSPACED = 0.3  # share of letters from which on a language is one that doesn't space its words
MOST_TEXTS, MOST_LETTERS = 2_000, 200  # that are looked at for their script; characters of a text


def is_unspaced(texts: Sequence[str]) -> bool:
    """Say whether texts are in scripts that put no spaces between words."""
    step = max(1, len(texts) // MOST_TEXTS)
    letters = [c for text in texts[::step] for c in text[:MOST_LETTERS] if c.isalpha()]
    own = sum(unicodedata.name(c, "").startswith(UNSPACED_SCRIPTS) for c in letters)
    return own > UNSPACED * len(letters)


def plain_text(text: str) -> str:
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return " ".join(TAG.sub(" ", text).lower().split())


def plain_origins(text: str) -> np.ndarray:
    """Return which character of a text each of ``plain_text`` comes from: (P,) int64."""
    plain = plain_text(text)
    characters, origins = text, np.arange(len(text))
    if not text.isascii():
        starts = [n for n, c in enumerate(text) if not n or not unicodedata.combining(c)]
        parts = [
            unicodedata.normalize("NFKC", text[start:end])
            for start, end in zip(starts, [*starts[1:], len(text)], strict=True)
        ]
        characters, origins = "".join(parts), np.repeat(starts, [len(part) for part in parts])
    kept = np.ones(len(characters), bool)
    spaced = list(characters)
    for tag in TAG.finditer(characters):
        kept[tag.start() + 1 : tag.end()] = False
        spaced[tag.start()] = " "
    lower = [c.lower() for c, own in zip(spaced, kept, strict=True) if own]
    origins = np.repeat(origins[kept], [len(part) for part in lower])
    whole = "".join(lower)
    space = np.array([c.isspace() for c in whole], bool)
    words = np.flatnonzero(~space)
    if len(words):
        space[: words[0]] = space[words[-1] + 1 :] = True
        # of a run of spaces between words the first stays
        inner = space & ~np.append(True, space[:-1])
        inner[: words[0]] = inner[words[-1] + 1 :] = False
        origins = origins[~space | inner]
    if len(origins) != len(plain):  # a rare composition across what was parted: about where it is
        return np.linspace(0, max(0, len(text) - 1), len(plain)).round().astype(np.int64)
    return origins.astype(np.int64)


def codepoints(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the characters of all texts, a space round each, and where each text starts."""
    spaced = [f" {text} " for text in texts]
    joined = "".join(spaced).encode("utf-32-le", "surrogatepass")
    starts = np.concatenate([[0], np.cumsum([len(text) for text in spaced], dtype=np.int64)])
    return np.frombuffer(joined, np.uint32), starts


class CharacterKinds:
    """What the characters are, each looked up once: space, in_word, unspaced, (L,) bool."""

    def __init__(self, codes: np.ndarray) -> None:
        known, places = np.unique(codes, return_inverse=True)
        characters = [chr(code) for code in known.tolist()]
        table = np.array(
            [
                (
                    c.isspace(),
                    c.isalnum() or c == "_" or unicodedata.combining(c) > 0,
                    unicodedata.name(c, "").startswith(UNSPACED_SCRIPTS),
                )
                for c in characters
            ],
            dtype=bool,
        ).reshape(-1, 3)
        self.space, self.in_word, self.unspaced = table[places].T


class SubstringHashes:
    """Hashes of any parts of a sequence: sum_i (c_i + 1) B^i modulo 2^64, the part's first i = 0.

    Source: Karp & Rabin 1987; B^-1 moves a part to where its first i is 0.
    """

    def __init__(self, codes: np.ndarray) -> None:
        size = len(codes) + 1
        powers = np.cumprod(np.full(size, BASE))  # B^1 ...; integers wrap round
        self.back = np.cumprod(np.full(size, np.uint64(pow(int(BASE), -1, 1 << 64))))
        weighted = (codes.astype(np.uint64) + np.uint64(1)) * powers[:-1]
        self.sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(weighted, dtype=np.uint64)])

    def of(self, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """Return the hashes of parts [start, end): (M,) uint64."""
        found: np.ndarray = (self.sums[ends] - self.sums[starts]) * self.back[starts]
        return found


@dataclass(frozen=True)
class Occurrences:
    """Where M terms stand.

    rows: (M,) int64, their texts' numbers; numbers: (M,) int64, the terms' own.
    starts, ends: (M,) int64, characters of the first and behind the last.
    """

    rows: np.ndarray
    numbers: np.ndarray
    starts: np.ndarray
    ends: np.ndarray


def word_terms(
    kinds: CharacterKinds, hashes: SubstringHashes, rows: np.ndarray
) -> Iterator[Occurrences]:
    """Yield words, then pairs of words."""
    joins = kinds.in_word & ~kinds.unspaced
    begins = ~kinds.space
    begins[1:] &= ~(joins[1:] & joins[:-1])
    starts = np.flatnonzero(begins)
    if not len(starts):
        return
    breaks = np.flatnonzero(~joins)  # where a word of several characters has ended
    ends = np.append(breaks, len(joins))[np.searchsorted(breaks, starts)]
    ends = np.where(joins[starts], ends, starts + 1)
    words = hashes.of(starts, ends)
    own = rows[starts]
    yield Occurrences(own, numbers(words, WORD_TERMS), starts, ends)
    together = own[1:] == own[:-1]
    pairs = mixed(words[:-1]) * BASE + words[1:]
    both = numbers(pairs[together], WORD_TERMS)
    yield Occurrences(own[1:][together], both, starts[:-1][together], ends[1:][together])


def character_terms(
    kinds: CharacterKinds, hashes: SubstringHashes, rows: np.ndarray
) -> Iterator[Occurrences]:
    """Yield runs of characters, by their length."""
    length = len(kinds.space)
    spaces = np.concatenate([[0], np.cumsum(kinds.space)])
    unspaced = np.concatenate([[0], np.cumsum(kinds.unspaced)])
    for size in range(1, LONGEST + 1):
        starts = np.arange(max(0, length - size + 1))
        ends = starts + size
        inner = spaces[ends - 1] - spaces[np.minimum(starts + 1, length)] if size > 2 else 0
        some = spaces[ends] - spaces[starts] < size  # not only spaces
        dense = unspaced[ends] > unspaced[starts]
        fits = np.where(dense, size <= LONGEST_UNSPACED, size >= SHORTEST)
        kept = np.flatnonzero((inner == 0) & some & fits & (rows[starts] == rows[ends - 1]))
        found = numbers(hashes.of(kept, kept + size), WORD_TERMS) + WORD_TERMS
        yield Occurrences(rows[kept], found, kept, kept + size)


def mixed(hashes: np.ndarray) -> np.ndarray:
    """Spread what distinguishes hashes over all their bits (Steele et al. 2014, mix64)."""
    first = (hashes ^ (hashes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    second = (first ^ (first >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    found: np.ndarray = second ^ (second >> np.uint64(31))
    return found


def numbers(hashes: np.ndarray, count: int) -> np.ndarray:
    """Return hashes as numbers in [0, count): (M,) int64."""
    return (mixed(hashes) % np.uint64(count)).astype(np.int64)


OFTEN = 2000  # texts from which on a run of characters must be in two of them


class TermWeights:
    """The terms of training texts, and the texts as TF-IDF vectors.

    Args:
        counts: (N, TERMS) of the texts.

    Attributes:
        numbers: (F,), rising; idf: (F,) float32; values: (N, F) float32.
    """

    def __init__(self, counts: sparse.csr_matrix) -> None:
        texts = np.bincount(counts.indices, minlength=TERMS)
        least = np.ones(TERMS, np.int64)
        if counts.shape[0] > OFTEN:
            least[WORD_TERMS:] = 2
        self.numbers = np.flatnonzero(texts >= least)
        share = (1 + counts.shape[0]) / (1 + texts[self.numbers])
        self.idf = (1 + np.log(share)).astype(np.float32)
        self.values = self.of(counts)

    def of(self, counts: sparse.csr_matrix) -> sparse.csr_matrix:
        """Return texts as vectors, words and characters each with norm 1: (N, F)."""
        place = np.full(TERMS, -1)
        place[self.numbers] = np.arange(len(self.numbers))
        known = place[counts.indices] >= 0
        rows = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))[known]
        columns = place[counts.indices[known]]
        values = (1 + np.log(counts.data[known])) * self.idf[columns]
        part = rows * 2 + (self.numbers[columns] >= WORD_TERMS)
        squares = np.bincount(part, weights=values**2, minlength=1)
        values = (values / np.sqrt(squares[part])).astype(np.float32)
        shape = counts.shape[0], len(self.numbers)
        return sparse.csr_matrix((values, (rows, columns)), shape=shape)

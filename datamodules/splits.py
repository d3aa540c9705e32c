"""Which rows are for training, validation and test."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from datamodules.inputs import columns_named, target_cells
from datamodules.table import SPLIT_COLUMN, Column, Columns, take
from pollinate.errors import PollinateError
from pollinate.yaml_words import may_mean

SPLITS = ("train", "valid", "test")
SYNONYMS = {
    "train": ("train", "training"),
    "valid": ("valid", "val", "validation", "dev"),
    "test": ("test", "testing", "eval"),
}
MOST_STRATA = 200  # distinct values above which a column is cut into quantiles, or not used
QUANTILES = 10
SMALLEST = 10  # rows of a quantile


def split_rows(
    spec: Mapping[str, Any], columns: Columns, rows: np.ndarray, strata: Column | None, seed: int
) -> dict[str, np.ndarray]:
    """Deal rows out to the splits.

    Args:
        spec: fractions {train, valid, test} of all rows, or {train: 1}; or {column: name} of a
            column that says each row's split, by other words with {values: {train: word or words,
            ...}}; or {files: ...}, where the column ``SPLIT_COLUMN`` says it. With a column or
            files, ``valid: f`` or ``test: f`` takes the share f of the training rows for a split
            that has none.
            ``group``: a column; rows of one value stay in one split where fractions are drawn.
            ``stratify``: a column of which each split gets its share of every value; a list of
            columns: of every combination; an empty one: of no value.
        columns: the data set's columns, of N rows.
        rows: (n,) the rows to deal out.
        strata: (N,) what to stratify by if ``stratify`` isn't given.
        seed: of the draw.

    Returns:
        {split: rows, sorted int64}.
    """
    groups = _column(spec["group"], "group", columns) if spec.get("group") else None
    stratify = spec.get("stratify")
    if stratify is not None:
        known = {name: _column(name, "stratify", columns) for name in columns_named(stratify)}
        strata = target_cells(stratify, known) if known else None
    draw = _RandomSplit(strata, groups, seed)
    if "files" in spec:
        if SPLIT_COLUMN not in columns:
            raise PollinateError(
                "split.files is for sources that read files, without a path of their own; name "
                "the files there only, or use split: {column: NAME}"
            )
        parts = _by_word(take(columns[SPLIT_COLUMN], rows), rows, "split.files", {})
    elif "column" in spec:
        words = take(_column(str(spec["column"]), "column", columns), rows)
        parts = _by_word(words, rows, f"split column {spec['column']!r}", spec.get("values") or {})
    else:
        parts = draw(rows, {name: float(spec[name]) for name in SPLITS if name in spec})
        return {name: parts.get(name, rows[:0]) for name in SPLITS}
    for name in ("test", "valid"):
        if spec.get(name) and not len(parts[name]):
            share = float(spec[name])
            parts |= draw(parts["train"], {"train": 1.0 - share, name: share})
    return parts


def split_name(word: Any) -> str | None:
    """Return the split that a word means by itself, None if it means none."""
    lower = str(word).strip().lower()
    return next((name for name, words in SYNONYMS.items() if lower in words), None)


def _column(name: str, use: str, columns: Columns) -> Column:
    if name not in columns:
        known = ", ".join(one for one in columns if one != SPLIT_COLUMN)
        raise PollinateError(f"split {use} {name!r} is not a column of the data; it has {known}")
    return columns[name]


def _by_word(
    words: Column, rows: np.ndarray, what: str, values: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    given_words = {
        split: given if isinstance(given, list) else [given] for split, given in values.items()
    }
    texts = np.asarray([str(word).strip() for word in words], dtype=object)
    distinct = sorted(set(texts))
    meaning: dict[str, str] = {}
    for word in distinct:
        exact = [s for s, own in given_words.items() if word in map(str, own)]
        alike = [s for s, own in given_words.items() if any(may_mean(one, word) for one in own)]
        chosen = exact or alike
        own = chosen[0] if len(chosen) == 1 else None if values else split_name(word)
        if own is not None:
            meaning[word] = own
    unknown = [word for word in distinct if word not in meaning]
    if unknown:
        named = ", ".join(str(one) for own in given_words.values() for one in own)
        given = "" if values else "; or say what its values mean: values: {train: ..., test: ...}"
        raise PollinateError(
            f"{what} must hold {named or 'train, valid or test'}, found "
            f"{', '.join(unknown[:5])}{given}"
        )
    found = np.asarray([meaning[word] for word in texts], dtype=object)
    return {name: rows[found == name] for name in SPLITS}


class _RandomSplit:
    """Deals rows out at random.

    Args:
        strata: (N,) of which each split gets its share of every value, or None.
        groups: (N,) whose rows of one value stay together, or None.
        seed: of the order.
    """

    def __init__(self, strata: Column | None, groups: Column | None, seed: int) -> None:
        self.strata = strata
        self.groups = groups
        self.seed = seed

    def __call__(self, rows: np.ndarray, fractions: Mapping[str, float]) -> dict[str, np.ndarray]:
        """Return {split: its rows} by shares that sum to 1."""
        generator = np.random.default_rng(self.seed)
        labels = stratum_numbers(take(self.strata, rows)) if self.strata is not None else None
        labels = np.zeros(len(rows), np.int64) if labels is None else labels
        if self.groups is None:
            parts = by_stratum(labels, fractions, generator)
        else:
            names = [str(value) for value in take(self.groups, rows)]
            parts = by_group(np.unique(names, return_inverse=True)[1], labels, fractions, generator)
        return {name: rows[part] for name, part in parts.items()}


def by_stratum(
    labels: np.ndarray, fractions: Mapping[str, float], generator: np.random.Generator
) -> dict[str, np.ndarray]:
    """Deal places out stratum by stratum; what rounding takes from a split, later strata give back.

    A split has each stratum's share to within one row, and its share of all rows too, however
    small the strata are. The first split has a row of every stratum: what isn't learnt can't be
    tested.

    Args:
        labels: (n,) int.
        fractions: {split: share}.
        generator: of the order.

    Returns:
        {split: places, sorted}.
    """
    shares = np.array(list(fractions.values()))
    owed = np.zeros(len(shares))  # rows that each split lacks so far
    parts: dict[str, list[np.ndarray]] = {name: [np.empty(0, np.int64)] for name in fractions}
    for number in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == number))
        whole = np.floor(shares * len(members)).astype(int)
        owed += shares * len(members) - whole
        first = (np.arange(len(shares)) == 0) & (whole == 0)
        lucky = np.lexsort((-owed, ~first))[: len(members) - whole.sum()]
        whole[lucky] += 1
        owed[lucky] -= 1
        for name, part in zip(fractions, np.split(members, np.cumsum(whole)[:-1]), strict=True):
            parts[name].append(part)
    return {name: np.sort(np.concatenate(part)) for name, part in parts.items()}


def by_group(
    groups: np.ndarray,
    labels: np.ndarray,
    fractions: Mapping[str, float],
    generator: np.random.Generator,
) -> dict[str, np.ndarray]:
    """Deal whole groups out, large ones first, each to the split that lacks most of its labels.

    Where several lack the same, the first split has a row of every label before others, and then
    comes the one that lacks most rows.

    Args:
        groups: (n,) int in [0, G).
        labels: (n,) int.
        fractions: {split: share}.
        generator: of the order among groups of one size.
    """
    count = int(groups.max()) + 1 if len(groups) else 0
    table = np.zeros((count, int(labels.max()) + 1 if len(labels) else 1))
    np.add.at(table, (groups, labels), 1)
    shares = np.array(list(fractions.values()))
    wanted = shares[:, None] * table.sum(axis=0)  # (splits, labels): rows
    missing = wanted.copy()  # those that aren't there yet
    owner = np.zeros(count, np.int64)
    for group in np.lexsort((generator.permutation(count), -table.sum(axis=1))):
        # the squared distance to what is wanted falls most where this is largest
        gain = (table[group] * missing / shares[:, None]).sum(axis=1).round(6)
        unseen = ((table[group] > 0) & (missing[0] == wanted[0])).any()
        first = (np.arange(len(shares)) == 0) & unseen
        owner[group] = np.lexsort((missing.sum(axis=1) / shares, first, gain))[-1]
        missing[owner[group]] -= table[group]
    return {name: np.flatnonzero(owner[groups] == i) for i, name in enumerate(fractions)}


def stratum_numbers(values: Column) -> np.ndarray | None:
    """Number the values of a column, (n,) int64; None if it has too many to stratify by.

    Numbers of many values are cut into quantiles. Where most rows have a value of their own, these
    are one stratum.
    """
    known: dict[str, int] = {}
    # one number at a time: there may be millions of values
    found = np.fromiter((known.setdefault(text, len(known)) for text in as_texts(values)), np.int64)
    alone = np.bincount(found, minlength=len(known))[found] == 1
    scattered = 2 * alone.sum() > len(found)
    few = len(known) <= max(MOST_STRATA, len(found) // 50)
    if few and not scattered:
        order = np.argsort(np.argsort(list(known))) if known else found
        numbers: np.ndarray = order[found]
        return numbers
    try:
        reals = np.fromiter((float(text or "nan") for text in as_texts(values)), np.float64)
    except ValueError:
        return np.where(alone, len(known), found) if few else None
    finite = np.isfinite(reals)
    if not finite.any():
        return None
    count = max(1, min(QUANTILES, len(reals) // SMALLEST))
    borders = np.quantile(reals[finite], np.linspace(0, 1, count + 1)[1:-1])
    return np.where(finite, np.searchsorted(borders, reals), count)


def as_texts(values: Column) -> Iterator[str]:
    """Yield values as texts, an empty one for an empty cell."""
    yield from ("" if value is None else str(value) for value in values)

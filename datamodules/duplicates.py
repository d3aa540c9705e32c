"""Rows with the same inputs: across splits they leak, with different labels they conflict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from datamodules.loading import LoadedDataset
from datamodules.table import Column, take
from pollinate.errors import PollinateError


@dataclass(frozen=True)
class Leak:
    """A row whose inputs are exactly those of a row in an earlier split.

    row, split; twin: the other row; twin_split: train, or valid for a row of test.
    """

    row: int
    split: str
    twin: int
    twin_split: str


def find_leaks(hashes: np.ndarray, rows: Mapping[str, np.ndarray]) -> list[Leak]:
    """Return the rows of valid and test that stand in an earlier split, too.

    Args:
        hashes: (N,) of all rows.
        rows: {split: rows}, in the order train, valid, test.
    """
    names = list(rows)
    order = np.concatenate([rows[name] for name in names]).astype(np.int64)
    split = np.repeat(np.arange(len(names)), [len(rows[name]) for name in names])
    _, first, numbers = np.unique(hashes[order], return_index=True, return_inverse=True)
    twin = first[numbers]  # the first place with the same inputs
    return [
        Leak(int(order[place]), names[split[place]], int(order[other]), names[split[other]])
        for place, other in ((p, twin[p]) for p in np.flatnonzero(split[twin] < split))
    ]


def match_hashes(hashes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the first place of each hash (n,) among others (m,), -1 where it isn't: (n,) int64."""
    distinct, first = np.unique(others, return_index=True)
    place = np.searchsorted(distinct, hashes)
    known = place < len(distinct)
    known[known] = distinct[place[known]] == hashes[known]
    found = np.full(len(hashes), -1, np.int64)
    found[known] = first[place[known]]
    return found


def label_conflicts(hashes: np.ndarray, labels: Column) -> list[list[int]]:
    """Return groups of rows with the same inputs and different labels; empty labels don't count."""
    _, numbers, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    shared = np.flatnonzero(counts[numbers] > 1)
    known: dict[str, int] = {"": -1}
    said = np.fromiter(
        (
            known.setdefault("" if label is None else str(label).strip(), len(known))
            for label in take(labels, shared)
        ),
        dtype=np.int64,
        count=len(shared),
    )
    pairs = np.unique(numbers[shared][said >= 0] * len(known) + said[said >= 0])  # input and label
    inputs, labels_of_it = np.unique(pairs // len(known), return_counts=True)
    groups: dict[int, list[int]] = {}
    apart = np.isin(numbers[shared], inputs[labels_of_it > 1])
    for row in shared[apart].tolist():
        groups.setdefault(int(numbers[row]), []).append(row)
    return list(groups.values())


SHOWN = 5  # rows that a message lists


def duplicate_notes(
    name: str, loaded: LoadedDataset, tasks: Sequence[str], strict: bool
) -> Iterator[str]:
    """Yield notes of rows that leak from split to split, and of those with several labels."""
    if loaded.hashes is None:
        if strict:
            why = (
                "streaming leaves them out" if loaded.table.streamed else "its files are too large"
            )
            raise PollinateError(
                f"data.strict can't be kept for data set {name}: copies are not looked for, as "
                f"{why}; set data.strict=false, or leave streaming out"
            )
        return
    yield from leak_notes(name, loaded, loaded.hashes, strict)
    for task in tasks:
        groups = label_conflicts(loaded.hashes, loaded.targets[task])
        if groups:
            rows = sum(map(len, groups))
            yield (
                f"{name}: {rows:,} rows with {len(groups):,} inputs have several labels of "
                f"{task}, one input each"
            )


def leak_notes(name: str, loaded: LoadedDataset, hashes: np.ndarray, strict: bool) -> Iterator[str]:
    """Yield a note for each split whose rows stand in an earlier one; see ``duplicate_notes``."""
    leaked = find_leaks(hashes, loaded.rows)
    for split in ("valid", "test"):
        found = [leak for leak in leaked if leak.split == split]
        if found:
            place = loaded.table.place
            some = "; ".join(f"{place(x.row)} = {place(x.twin)}" for x in found[:SHOWN])
            text = f"{name}: {len(found):,} rows of {split} stand in an earlier split, too"
            if strict:
                raise PollinateError(
                    f"data set {text} ({some}); remove them, or accept them: data.strict=false"
                )
            yield f"{text} ({found[0].twin_split}), so its scores flatter"


@dataclass(frozen=True)
class CrossDatasetLeak:
    """Rows of a split of one data set that another one trains on.

    name, split: whose rows; other: the data set that trains on them.
    count: how many; places: where some of them are, and their twins.
    """

    name: str
    split: str
    other: str
    count: int
    places: Sequence[str]


def cross_dataset_leaks(loaded: Mapping[str, LoadedDataset]) -> Iterator[CrossDatasetLeak]:
    """Yield what data sets of the same modalities have in common across splits.

    Args:
        loaded: the data sets by name; those without hashes are passed over.
    """
    known = {name: one for name, one in loaded.items() if one.hashes is not None}
    for name, own in known.items():
        for other, source in known.items():
            if other == name or set(own.inputs) != set(source.inputs):
                continue
            assert own.hashes is not None
            assert source.hashes is not None
            trained = source.rows["train"]
            for split in ("valid", "test"):
                rows = own.rows[split]
                twin = match_hashes(own.hashes[rows], source.hashes[trained])
                found = np.flatnonzero(twin >= 0)
                if len(found):
                    places = [
                        f"{own.table.place(int(rows[n]))} = "
                        f"{source.table.place(int(trained[twin[n]]))}"
                        for n in found[:SHOWN]
                    ]
                    yield CrossDatasetLeak(name, split, other, len(found), places)


def cross_dataset_notes(loaded: Mapping[str, LoadedDataset], strict: bool) -> Iterator[str]:
    """Yield a note for each split that has rows which another data set trains on."""
    for one in cross_dataset_leaks(loaded):
        text = f"{one.name}: {one.count:,} rows of {one.split} are training rows of {one.other}"
        if strict:
            raise PollinateError(
                f"data set {text} ({'; '.join(one.places)}); remove them, or accept them: "
                "data.strict=false"
            )
        yield f"{text}, so its scores flatter"

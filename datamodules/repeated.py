"""What a user should know of rows with the same inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from datamodules.duplicates import conflicts, leaks, twins
from datamodules.loading import Loaded
from pipeline.errors import PollinateError

SHOWN = 5  # rows that a message lists


def duplicate_notes(name: str, loaded: Loaded, tasks: Sequence[str], strict: bool) -> Iterator[str]:
    """Yield notes of rows that leak from one split into another, and of those with several labels.

    Args:
        name: of the data set.
        loaded: its rows.
        tasks: on this data set.
        strict: whether a leak is an error.

    Raises:
        PollinateError: a row leaks, or that can't be known, and ``strict``.
    """
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
        groups = conflicts(loaded.hashes, loaded.targets[task])
        if groups:
            rows = sum(map(len, groups))
            yield (
                f"{name}: {rows:,} rows with {len(groups):,} inputs have several labels of "
                f"{task}, one input each"
            )


def leak_notes(name: str, loaded: Loaded, hashes: np.ndarray, strict: bool) -> Iterator[str]:
    """Yield a note for each split whose rows stand in an earlier one; see ``duplicate_notes``."""
    leaked = leaks(hashes, loaded.rows)
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
class Shared:
    """Rows of a split of one data set that another one trains on.

    name, split: whose rows; other: the data set that trains on them.
    count: how many; places: where some of them are, and their twins.
    """

    name: str
    split: str
    other: str
    count: int
    places: Sequence[str]


def shared_rows(loaded: Mapping[str, Loaded]) -> Iterator[Shared]:
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
                twin = twins(own.hashes[rows], source.hashes[trained])
                found = np.flatnonzero(twin >= 0)
                if len(found):
                    places = [
                        f"{own.table.place(int(rows[n]))} = "
                        f"{source.table.place(int(trained[twin[n]]))}"
                        for n in found[:SHOWN]
                    ]
                    yield Shared(name, split, other, len(found), places)


def shared_notes(loaded: Mapping[str, Loaded], strict: bool) -> Iterator[str]:
    """Yield a note for each split that has rows which another data set trains on.

    Raises:
        PollinateError: there are any, and ``strict``.
    """
    for one in shared_rows(loaded):
        text = f"{one.name}: {one.count:,} rows of {one.split} are training rows of {one.other}"
        if strict:
            raise PollinateError(
                f"data set {text} ({'; '.join(one.places)}); remove them, or accept them: "
                "data.strict=false"
            )
        yield f"{text}, so its scores flatter"

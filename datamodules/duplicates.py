"""Rows with the same inputs: across splits they leak, with different labels they conflict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.columns import Column, take

MOST_BYTES = 4 << 30  # of files that are read to compare them


@dataclass(frozen=True)
class Leak:
    """A row whose inputs are exactly those of a row in an earlier split.

    row, split; twin: the other row; twin_split: train, or valid for a row of test.
    """

    row: int
    split: str
    twin: int
    twin_split: str


def hash_rows(inputs: Mapping[str, Column]) -> np.ndarray:
    """Return a number for each row that is the same for the same inputs: (N,) uint64.

    Files are compared by content. Different inputs share a number with probability 2^-64.
    """
    parts = [
        np.fromiter((cell_hash(cell) for cell in column), dtype=np.uint64, count=len(column))
        for _, column in sorted(inputs.items())
    ]
    found = parts[0]
    for part in parts[1:]:
        found = found * np.uint64(0x9E3779B97F4A7C15) + part  # modulo 2^64, order matters
    return found


def cell_hash(cell: Any) -> int:
    """Return 64 bits of a cell's content."""
    return int.from_bytes(blake2b(content(cell), digest_size=8).digest(), "little")


def content(cell: Any) -> bytes:
    """Return a cell as bytes: a file's content for its path."""
    if isinstance(cell, bytes):
        return cell
    if isinstance(cell, str):
        return cell.encode(errors="surrogatepass")
    if isinstance(cell, Path):
        return cell.read_bytes() if cell.is_file() else str(cell).encode()
    if isinstance(cell, np.ndarray):
        return cell.tobytes()
    if isinstance(cell, tuple | list):
        return b"\x1f".join(map(content, cell))
    return repr(cell).encode()


def bytes_on_disk(inputs: Mapping[str, Column]) -> int:
    """Return the size of all files that cells name."""
    return sum(
        cell.stat().st_size
        for modality, column in inputs.items()
        if modality != "text" and not isinstance(column, np.ndarray)
        for cell in column
        if isinstance(cell, Path) and cell.is_file()
    )


def leaks(hashes: np.ndarray, rows: Mapping[str, np.ndarray]) -> list[Leak]:
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


def twins(hashes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the first place of each hash (n,) among others (m,), -1 where it isn't: (n,) int64."""
    distinct, first = np.unique(others, return_index=True)
    place = np.searchsorted(distinct, hashes)
    known = place < len(distinct)
    known[known] = distinct[place[known]] == hashes[known]
    found = np.full(len(hashes), -1, np.int64)
    found[known] = first[place[known]]
    return found


def conflicts(hashes: np.ndarray, labels: Column) -> list[list[int]]:
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

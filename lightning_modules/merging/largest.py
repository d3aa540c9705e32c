"""How large an entry must be to be among the largest, of more entries than fit into memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

DIGITS = 16  # of the 31 bits of a size, the leading ones are counted first
REST = 31 - DIGITS
Stream = Callable[[], Iterable[tuple[int, Tensor]]]  # (which vector, some of its entries)


def limits(stream: Stream, vectors: int, keep: float) -> list[float]:
    """Return, of each vector, the smallest size |x| of the share of entries that are largest.

    The bits of floats >= 0 are in the order of their values: a first pass counts the leading ones,
    a second looks at the entries between which the limit must lie.

    Args:
        stream: goes through the entries of all vectors, float32 >= 0, in any order; called twice.
        vectors: how many there are.
        keep: share of the entries, in (0, 1].

    Returns:
        A limit for each vector; 0 for one without entries.
    """
    counts = torch.zeros(vectors, 1 << DIGITS, dtype=torch.int64)
    for which, sizes in stream():
        counts[which] += torch.bincount(leading(sizes), minlength=1 << DIGITS)
    wanted, bins = [], []
    for own in counts:
        total = int(own.sum())
        rank = total - math.ceil(keep * total)  # entries that are dropped
        below = own.cumsum(0)
        found = int(torch.searchsorted(below, rank, right=True)) if total else 0
        bins.append(found)
        wanted.append(rank - int(below[found] - own[found]))
    inside: list[list[Tensor]] = [[] for _ in range(vectors)]
    for which, sizes in stream():
        inside[which].append(sizes[leading(sizes) == bins[which]])
    return [
        torch.cat(some).kthvalue(rank + 1).values.item() if some else 0.0
        for some, rank in zip(inside, wanted, strict=True)
    ]


def leading(sizes: Tensor) -> Tensor:
    """Return the leading bits of sizes: (n,) float32 >= 0 -> (n,) int32."""
    return sizes.view(torch.int32) >> REST

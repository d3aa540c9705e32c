"""TIES: trim, elect signs, merge."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor

from lightning_modules.merging.models import Models, ResultTensor
from lightning_modules.merging.task_vectors import TaskVectorMerge, task_vector
from pollinate.errors import UsageError

DIGITS = 16  # of the 31 bits of a size, the leading ones are counted first
TRAILING_BITS = 31 - DIGITS
Stream = Callable[[], Iterable[tuple[int, Tensor]]]  # (which vector, some of its entries)


def magnitude_thresholds(stream: Stream, vectors: int, keep: float) -> list[float]:
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
        counts[which] += torch.bincount(leading_bits(sizes), minlength=1 << DIGITS)
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
        inside[which].append(sizes[leading_bits(sizes) == bins[which]])
    return [
        torch.cat(some).kthvalue(rank + 1).values.item() if some else 0.0
        for some, rank in zip(inside, wanted, strict=True)
    ]


def leading_bits(sizes: Tensor) -> Tensor:
    """Return the leading bits of sizes: (n,) float32 >= 0 -> (n,) int32."""
    return sizes.view(torch.int32) >> TRAILING_BITS


class Ties(TaskVectorMerge):
    """theta = theta_0 + s tau, tau_p the mean of the tau_ip whose sign is gamma_p.

    Of each task vector the share ``keep`` of entries that are largest in size stays, the others
    become 0; gamma = sign(sum_i tau_i); zeros take no part in the mean. Source: Yadav et al. 2023,
    "TIES-Merging", section 4 and algorithm 1. The largest are sought over all tensors of a model
    that are merged; entries as large as the smallest of them stay, too.

    Args:
        keep: share of each task vector's entries, in (0, 1].
        scale: s; if several, the best on validation data is used.

    Raises:
        UsageError: keep is out of its range.

    Examples:
        >>> import torch, pollinate as po
        >>> base = {"w": torch.zeros(4)}
        >>> a = {"w": torch.tensor([4.0, -1.0, 0.5, 3.0])}
        >>> b = {"w": torch.tensor([-2.0, -3.0, 1.0, 0.0])}
        >>> method = po.merging.Ties(keep=0.5)
        >>> method.merge_state_dicts({"a": a, "b": b}, base).state
        {'w': tensor([ 4., -3.,  0.,  3.])}
    """

    def __init__(self, keep: float = 0.2, scale: float | Sequence[float] = 1.0) -> None:
        super().__init__(scale)
        if not 0 < keep <= 1:
            raise UsageError(f"keep must be in (0, 1], got {keep}")
        self.keep = keep
        self.thresholds: list[float] = []  # of each model: the smallest size that stays

    def prepare(self, models: Models) -> None:
        """Find how large an entry must be to stay."""
        self.thresholds = magnitude_thresholds(lambda: self._sizes(models), len(models), self.keep)

    def combine(self, taus: Sequence[Tensor], unit: ResultTensor, first: int) -> Tensor:
        """Return the mean of the entries that agree with the elected sign."""
        thresholds = [self.thresholds[owner] for owner in unit.owners]
        kept = [
            tau.where(tau.abs().float() >= threshold, 0.0)
            for tau, threshold in zip(taus, thresholds, strict=True)
        ]
        return disjoint_mean(torch.stack(kept))

    @staticmethod
    def _sizes(models: Models) -> Iterator[tuple[int, Tensor]]:
        """Yield (place of a model, the sizes of some entries of its task vector)."""
        for unit, tensors, start in models.stream():
            if start is None or not models.is_merged(unit):
                continue
            own = start.double()
            for owner, tensor in zip(unit.owners, tensors, strict=True):
                yield owner, task_vector(tensor, own).abs_().float().reshape(-1)


def disjoint_mean(vectors: Tensor) -> Tensor:
    """Return the mean over models of the entries with the sign of their sum: (k, n) -> (n,)."""
    sign = vectors.sum(dim=0).sign()
    agrees = vectors * sign > 0
    total = (vectors * agrees).sum(dim=0)
    return total / agrees.sum(dim=0).clamp(min=1)

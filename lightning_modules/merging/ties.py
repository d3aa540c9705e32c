"""TIES: trim, elect signs, merge."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from lightning_modules.merging.largest import limits
from lightning_modules.merging.models import Models, Unit
from lightning_modules.merging.vectors import VectorMerging, task_vector
from pipeline.errors import UsageError


class Ties(VectorMerging):
    """theta = theta_0 + s tau, tau_p the mean of the tau_ip whose sign is gamma_p.

    Of each task vector the share ``keep`` of entries that are largest in size stays, the others
    become 0; gamma = sign(sum_i tau_i); zeros take no part in the mean. Source: Yadav et al. 2023,
    "TIES-Merging", section 4 and algorithm 1. The largest are sought over all tensors of a model
    that are merged; entries as large as the smallest of them stay, too.

    Args:
        keep: share of each task vector's entries, in (0, 1].
        scale: s; of several, the best on validation data.

    Raises:
        UsageError: keep is out of its range.
    """

    def __init__(self, keep: float = 0.2, scale: float | Sequence[float] = 1.0) -> None:
        super().__init__(scale)
        if not 0 < keep <= 1:
            raise UsageError(f"keep must be in (0, 1], got {keep}")
        self.keep = keep
        self.limits: list[float] = []  # of each model: the smallest size that stays

    def prepare(self, models: Models) -> None:
        """Find how large an entry must be to stay."""
        self.limits = limits(lambda: self._sizes(models), len(models), self.keep)

    def combine(self, taus: Sequence[Tensor], unit: Unit, first: int) -> Tensor:
        """Return the mean of the entries that agree with the elected sign."""
        limits = [self.limits[owner] for owner in unit.owners]
        kept = [
            tau.where(tau.abs().float() >= limit, 0.0)
            for tau, limit in zip(taus, limits, strict=True)
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

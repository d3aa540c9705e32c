"""Iso-C: the sum of the task matrices, as long in all of its directions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_modules.merging.task_matrices import TaskMatrixMerge


class IsoC(TaskMatrixMerge):
    """theta = theta_0 + s m U V^T, where sum_i D_i = U S V^T and m is the mean of the values S.

    Source: Marczak et al. 2025, "No task left behind: isotropic model merging with common and
    task-specific subspaces", algorithm 1. Deviation: U and V are of as many values as come from
    more than the rounding of the weights; m is the mean over these. Of full-rank sums, that is all.

    Args:
        scale: s; if several, the best on validation data is used.

    Examples:
        >>> import torch, pollinate as po
        >>> base = {"w": torch.zeros(2, 2)}
        >>> a = {"w": torch.tensor([[4.0, 0.0], [0.0, 1.0]])}
        >>> b = {"w": torch.tensor([[2.0, 0.0], [0.0, 1.0]])}
        >>> po.merging.IsoC().merge_state_dicts({"a": a, "b": b}, base).state  # (6 + 2) / 2
        {'w': tensor([[4., 0.],
                [0., 4.]])}
    """

    def __init__(self, scale: float | Sequence[float] = 1.0) -> None:
        super().__init__(scale)

    def combine_matrices(self, matrices: Sequence[Tensor], noise: float) -> Tensor:
        """Return m U V^T."""
        u, s, vt = torch.linalg.svd(torch.stack(list(matrices)).sum(dim=0), full_matrices=False)
        kept = int((s > len(matrices) * noise).sum())
        if not kept:
            return torch.zeros_like(matrices[0])
        found: Tensor = s[:kept].mean() * (u[:, :kept] @ vt[:kept])
        return found

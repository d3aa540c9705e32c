"""Projection onto the simplex."""

from __future__ import annotations

import torch
from torch import Tensor


def project(point: Tensor) -> Tensor:
    """Return the nearest w with w >= 0 and sum_t w_t = 1: (T,).

    Source: Duchi et al. 2008, "Efficient Projections onto the l1-Ball", figure 1.
    """
    ordered = point.sort(descending=True).values
    counts = torch.arange(1, len(point) + 1, dtype=point.dtype)
    thresholds = (ordered.cumsum(0) - 1) / counts
    return (point - thresholds[(ordered > thresholds).sum() - 1]).clamp(min=0)

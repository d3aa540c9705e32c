"""What an encoder gives to the trunk."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass
class Features:
    """Representation of N rows.

    pooled: (N, D), one vector a row.
    sequence: (N, L, D), one vector a token, or None.
    grid: (N, D, H, W), one vector a cell, or None.
    mask: (N, L) bool, True where ``sequence`` holds a real token, or None.
    """

    pooled: Tensor
    sequence: Tensor | None = None
    grid: Tensor | None = None
    mask: Tensor | None = None

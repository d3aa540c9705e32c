"""Finds where functions of one valley are smallest."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

GOLDEN = (math.sqrt(5) - 1) / 2


def golden_section(
    function: Callable[[Tensor], Tensor], low: float, high: float, precision: float, count: int = 1
) -> Tensor:
    """Return where each of K functions of one valley is smallest, K at once: (K,) float64.

    Source: Kiefer 1953, "Sequential minimax search for a maximum".

    Args:
        function: points (K,) -> values (K,), the k-th of the k-th point alone.
        low, high: between which is looked.
        precision: width of what is left of that.
        count: K.
    """
    lows = torch.full((count,), low, dtype=torch.float64)
    highs = torch.full((count,), high, dtype=torch.float64)
    lefts, rights = highs - GOLDEN * (highs - lows), lows + GOLDEN * (highs - lows)
    at_left, at_right = function(lefts), function(rights)
    while (highs - lows).max() > precision:
        fell = at_left <= at_right  # the valley is left of the right point
        lows, highs = torch.where(fell, lows, lefts), torch.where(fell, rights, highs)
        new = torch.where(fell, highs - GOLDEN * (highs - lows), lows + GOLDEN * (highs - lows))
        at_new = function(new)
        lefts, rights = torch.where(fell, new, rights), torch.where(fell, lefts, new)
        at_left, at_right = (
            torch.where(fell, at_new, at_right),
            torch.where(fell, at_left, at_new),
        )
    return (lows + highs) / 2

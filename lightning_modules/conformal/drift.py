"""Whether new rows still look like the calibration rows."""

from __future__ import annotations

import math

import torch
from torch import Tensor

FEWEST = 50  # rows
SURE = 1e-4  # probability of as large a distance between rows of one kind
LARGE = 0.1  # distance that matters


def kolmogorov_smirnov(first: Tensor, second: Tensor) -> tuple[float, float]:
    """Return (D, p): D = max_t |F_1(t) - F_2(t)|, and the probability of as large a D by chance.

    p by Kolmogorov's limit, 2 sum_j (-1)^(j - 1) exp(-2 j^2 D^2 n m / (n + m)).

    Args:
        first: (n,) scores; second: (m,) scores.
    """
    points = torch.cat([first, second]).double().sort().values
    own, other = (part.double().sort().values.contiguous() for part in (first, second))
    gaps = torch.searchsorted(own, points, right=True) / len(own) - torch.searchsorted(
        other, points, right=True
    ) / len(other)
    distance = gaps.abs().max().item()
    scale = distance**2 * len(own) * len(other) / (len(own) + len(other))
    terms = ((-1) ** (j - 1) * math.exp(-2 * j * j * scale) for j in range(1, 101))
    return distance, min(1.0, max(0.0, 2 * sum(terms))) if scale > 0.04 else 1.0


def drift_distance(known: Tensor, new: Tensor) -> float | None:
    """Return how far scores of new rows are from those of calibration rows, None if not surely."""
    if min(len(known), len(new)) < FEWEST:
        return None
    distance, chance = kolmogorov_smirnov(known, new)
    return distance if distance > LARGE and chance < SURE else None

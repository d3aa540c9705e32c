"""The mean of a few seeds, and between which values it lies."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import stdtr, stdtrit

from pipeline.studying.answers import Estimate


def estimate(values: Sequence[float], level: float = 0.95) -> Estimate:
    """Return mean +- t_{(1 + level) / 2, n - 1} s / sqrt(n); a mean only for one value.

    For normal values this is the bootstrap of (mean - mu) / s with infinitely many resamples.
    Resampling the values themselves covers too rarely: n = 3 seeds have 10 different resamples.

    Source: Student 1908; docs/study_statistics.md compares it with bootstraps.

    Args:
        values: of n >= 1 seeds, finite.
        level: share of studies whose interval encloses the truth.
    """
    mean, n = float(np.mean(values)), len(values)
    if n < 2:
        return Estimate(mean, None, None, n)
    return around(mean, float(np.std(values, ddof=1)) / math.sqrt(n), n - 1, n, level)


def around(mean: float, error: float, freedom: float, seeds: int, level: float) -> Estimate:
    """Return mean +- t error, t of ``freedom`` degrees of freedom, error the mean's own."""
    half = float(stdtrit(freedom, (1 + level) / 2)) * error
    return Estimate(mean, mean - half, mean + half, seeds)


def p_value(mean: float, error: float, freedom: float) -> float:
    """Return the two-sided p of mean = 0; error > 0 is the mean's own."""
    return float(2 * stdtr(freedom, -abs(mean) / error))

"""One difference between an arm and its baseline, before the other tests are looked at."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pipeline.studying.analysis.moderated import is_nothing, moderated
from pipeline.studying.analysis.noise import Noise, Row
from pipeline.studying.analysis.pairing import Pair
from pipeline.studying.analysis.student import around, p_value
from pipeline.studying.answers import Estimate


@dataclass(frozen=True)
class Tested:
    """difference, relative: as in Change; p: None where it can't be had.

    error: of the mean difference; freedom: its degrees; both None for a single seed.
    """

    difference: Estimate
    relative: Estimate | None
    p: float | None = None
    error: float | None = None
    freedom: float | None = None


@dataclass(frozen=True)
class Place:
    """Where in the study a difference is: what its noise is learnt from."""

    noise: Noise
    row: Row
    arm: str
    base: str


def tested(pair: Pair, place: Place, level: float) -> Tested:
    """Return the mean difference and ratio of paired scores, with intervals, and the test of 0."""
    difference, error, freedom, p = mean_of(pair.difference, place, 1.0, level)
    parts = pair.relative()
    relative = None if parts is None else mean_of(parts, place, pair.c, level, abs(pair.level))[0]
    return Tested(difference, relative, p, error, freedom)


def mean_of(
    values: np.ndarray, place: Place, c: float, level: float, unit: float = 1.0
) -> tuple[Estimate, float | None, float | None, float | None]:
    """Return the mean of (a - c b) / unit with its error, degrees of freedom and p.

    None for a single seed; no p either where seeds don't vary.
    """
    mean, n = float(np.mean(values)), len(values)
    if n < 2:
        return Estimate(mean, None, None, n), None, None, None
    inputs = values * unit
    v, freedom = moderated(inputs, place.noise, place.row, place.arm, place.base, c)
    error = math.sqrt(v / n) / unit
    found = around(mean, error, freedom, n, level)
    if is_nothing(v, float(np.abs(inputs).max())):
        return found, error, freedom, None
    return found, error, freedom, p_value(mean, error, freedom)

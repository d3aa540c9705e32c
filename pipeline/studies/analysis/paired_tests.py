"""Tests of differences between two arms with the same seeds: t, Holm's correction, power."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr, stdtrit
from scipy.stats import chi2

from pipeline.studies.analysis.estimates import IntervalEstimate, t_interval, t_p_value
from pipeline.studies.analysis.score_table import Seeds
from pipeline.studies.analysis.seed_noise import Row, SeedNoise, is_rounding, moderated_variance

ROUNDING = 1e-12  # of the largest score


@dataclass(frozen=True)
class PairedScores:
    """Scores of an arm and of its baseline for the n seeds that both have: (n,) each."""

    seeds: tuple[int, ...]
    arm: np.ndarray
    base: np.ndarray

    @cached_property
    def difference(self) -> np.ndarray:
        """Arm - baseline of each seed: (n,)."""
        found: np.ndarray = self.arm - self.base
        return found

    @cached_property
    def level(self) -> float:
        return float(self.base.mean())

    @cached_property
    def ratio(self) -> float | None:
        """Mean difference / |mean baseline|; None where that is 0, but for rounding."""
        nothing = ROUNDING * float(np.abs([self.arm, self.base]).max())
        return (
            float(self.difference.mean()) / abs(self.level) if abs(self.level) > nothing else None
        )

    def relative(self) -> np.ndarray | None:
        """Return each seed's part in the ratio R: R + (a - c b) / |b|, c = 1 + R sign(b): (n,).

        Their mean is R and their spread that of R, the baseline's noise included (the ratio's
        linearisation, delta method); None where R is undefined.
        """
        if self.ratio is None:
            return None
        found: np.ndarray = self.ratio + (self.arm - self.c * self.base) / abs(self.level)
        return found

    @property
    def c(self) -> float:
        """Weight of the baseline in the ratio's error: 1 + R sign(baseline)."""
        return 1 + (self.ratio or 0.0) * math.copysign(1, self.level)


def paired_scores(arm: Seeds, base: Seeds) -> PairedScores | None:
    """Return the seeds that both have; None for none."""
    seeds = tuple(sorted(arm.keys() & base.keys()))
    if not seeds:
        return None
    return PairedScores(
        seeds, np.array([arm[s] for s in seeds]), np.array([base[s] for s in seeds])
    )


@dataclass(frozen=True)
class PairedTest:
    """difference, relative: as in Change; p: None where it can't be had.

    error: of the mean difference; freedom: its degrees; both None for a single seed.
    """

    difference: IntervalEstimate
    relative: IntervalEstimate | None
    p: float | None = None
    error: float | None = None
    freedom: float | None = None


@dataclass(frozen=True)
class NoiseContext:
    """Where in the study a difference is: what its noise is learnt from."""

    noise: SeedNoise
    row: Row
    arm: str
    base: str


def paired_test(pair: PairedScores, context: NoiseContext, level: float) -> PairedTest:
    """Return the mean difference and ratio of paired scores, with intervals, and the test of 0."""
    difference, error, freedom, p = tested_mean(pair.difference, context, 1.0, level)
    parts = pair.relative()
    relative = (
        None if parts is None else tested_mean(parts, context, pair.c, level, abs(pair.level))[0]
    )
    return PairedTest(difference, relative, p, error, freedom)


def tested_mean(
    values: np.ndarray, context: NoiseContext, c: float, level: float, unit: float = 1.0
) -> tuple[IntervalEstimate, float | None, float | None, float | None]:
    """Return the mean of (a - c b) / unit with its error, degrees of freedom and p.

    None for a single seed; no p either where seeds don't vary.
    """
    mean, n = float(np.mean(values)), len(values)
    if n < 2:
        return IntervalEstimate(mean, None, None, n), None, None, None
    inputs = values * unit
    v, freedom = moderated_variance(
        inputs, context.noise, context.row, context.arm, context.base, c
    )
    error = math.sqrt(v / n) / unit
    found = t_interval(mean, error, freedom, n, level)
    if is_rounding(v, float(np.abs(inputs).max())):
        return found, error, freedom, None
    return found, error, freedom, t_p_value(mean, error, freedom)


def holm(p: Sequence[float]) -> list[float]:
    """Return adjusted p: of the i-th smallest of m, max_{j <= i} min(1, (m - j + 1) p_(j)).

    The chance of any adjusted p <= alpha among true null hypotheses is at most alpha, however
    the tests depend on each other.

    Source: Holm 1979.

    Args:
        p: of m tests, in [0, 1].
    """
    values = np.asarray(p, dtype=float)
    order = np.argsort(values, kind="stable")
    steps = values[order] * np.arange(len(values), 0, -1)
    adjusted = np.empty(len(values))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return [float(one) for one in adjusted]


POWER = 0.8
GRID = 2000  # points at which chi-squared is integrated


def power(effect: float, freedom: float, p: float) -> float:
    """Return the chance that Student's t with mean ``effect`` has a two-sided p below ``p``.

    E_w[Phi(effect - c w) + Phi(-effect - c w)], w^2 f chi-squared with f degrees of freedom,
    c = t_{1 - p / 2, f}.

    Args:
        effect: difference / its standard error.
        freedom: f, > 0; p: in (0, 1).
    """
    at = (np.arange(GRID) + 0.5) / GRID
    w = np.sqrt(chi2.ppf(at, freedom) / freedom)
    c = -stdtrit(freedom, p / 2)
    return float(np.mean(ndtr(effect - c * w) + ndtr(-effect - c * w)))


def detectable_difference(error: float, freedom: float, p: float) -> float:
    """Return the difference that is found significant in 80 % of studies; error: of its mean."""
    high = 1.0
    while power(high, freedom, p) < POWER:
        high *= 2
    return error * float(brentq(lambda effect: power(effect, freedom, p) - POWER, 0.0, high))


def median_detectable_difference(
    tests: Sequence[PairedTest], tests_done: int, level: float
) -> float | None:
    """Return the median over a task's tests of the smallest difference they could have shown.

    At p = (1 - level) / tests done: Holm's first step, which a single true change has to take.
    None where no test was done.
    """
    done = [
        (test.error, test.freedom)
        for test in tests
        if test.p is not None and test.error is not None and test.freedom is not None
    ]
    if not done:
        return None
    freedom = float(np.median([f for _, f in done]))
    error = math.sqrt(float(np.median([e**2 for e, _ in done])))
    return detectable_difference(error, freedom, (1 - level) / max(tests_done, 1))

"""The smallest difference that seeds could have shown."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr, stdtrit
from scipy.stats import chi2

from pipeline.studying.analysis.tested import Tested

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


def least_difference(error: float, freedom: float, p: float) -> float:
    """Return the difference that is found significant in 80 % of studies; error: of its mean."""
    high = 1.0
    while power(high, freedom, p) < POWER:
        high *= 2
    return error * float(brentq(lambda effect: power(effect, freedom, p) - POWER, 0.0, high))


def least(tests: Sequence[Tested], tests_done: int, level: float) -> float | None:
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
    return least_difference(error, freedom, (1 - level) / max(tests_done, 1))

"""The variance of a difference: its own few seeds', drawn towards that of the whole study."""

from __future__ import annotations

import numpy as np

from pipeline.studying.analysis.noise import Noise, Row

PRIOR = 8  # degrees of freedom that the study's variance counts at most
ROUNDING = 1e-12  # deviations this small against the values are none


def moderated(
    values: np.ndarray, noise: Noise, row: Row, arm: str, base: str, c: float = 1.0
) -> tuple[float, float]:
    """Return the variance of one seed's a - c b, and its degrees of freedom.

    v = (g V + d s^2) / (g + d) with f' = max(min(f, 8 + d / 2), d) degrees of freedom, where s^2
    with d = n - 1 is the values' own, V with f is the study's (Noise.variance), g = min(f, 8).
    v = s^2 where the study knows no more than the values, f <= d.

    So an arm that is noisier in one task than elsewhere is still seen, and three seeds have more
    than two degrees of freedom. As in Smyth 2004, but with the prior's freedom from counting:
    too few variances are there to estimate it. g and f' were chosen by simulation
    (docs/study_statistics.md).

    Args:
        values: a - c b of n >= 2 seeds: (n,).
        row, arm, base: the cells that the values are of.
    """
    d = len(values) - 1
    own = float(np.var(values, ddof=1))
    study, f = noise.variance(row, arm, base, c)
    if f <= d:
        return own, d
    g = min(f, PRIOR)
    return (g * study + d * own) / (g + d), max(min(f, PRIOR + d / 2), d)


def is_nothing(variance: float, size: float) -> bool:
    """Return whether a variance is rounding: seeds don't vary."""
    return variance <= (ROUNDING * size) ** 2

"""How much seeds alone change a score, estimated from all runs of a study; moderated variances."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np

Row = tuple[str | tuple[str, ...], float]  # a task, or some, and the share of the labels
Cell = tuple[Row, str]  # a row and an arm
STEPS, CLOSE = 200, 1e-9  # of the fit: most, and the relative change that ends it
LEAST = 1e-6  # smallest factor, of arms that never vary
MOST_CORRELATED = 0.95


@dataclass(frozen=True)
class SeedNoise:
    """The variance of arm a's score in row t over seeds is scale_t factor_k(a).

    scale: {row: > 0}; factor: {kind of arm: > 0}.
    correlation: of two arms' scores of the same row and seed.
    rows, kinds: degrees of freedom behind each; kind: {arm: its kind}.
    """

    scale: dict[Row, float]
    factor: dict[str, float]
    correlation: float
    rows: dict[Row, float]
    kinds: dict[str, float]
    kind: Mapping[str, str]

    def variance(self, row: Row, arm: str, base: str, c: float = 1.0) -> tuple[float, float]:
        """Return the variance of a - c b of one seed, and its degrees of freedom (0: none).

        scale_t (f_a + c^2 f_b - 2 rho c sqrt(f_a f_b)), the freedom harmonically of the row's and
        of the two kinds', those by Satterthwaite 1946.
        """
        a, b = self.kind.get(arm), self.kind.get(base)
        if row not in self.scale or a not in self.factor or b not in self.factor:
            return 0.0, 0.0
        fa, fb = self.factor[a], c * c * self.factor[b]
        value = self.scale[row] * (
            fa + fb - 2 * self.correlation * math.copysign(1, c) * math.sqrt(fa * fb)
        )
        both = (fa + fb) ** 2 / (fa**2 / self.kinds[a] + fb**2 / self.kinds[b])
        return value, 1 / (1 / self.rows[row] + 1 / both)


def fit_noise(cells: Mapping[Cell, Mapping[int, float]], kind: Mapping[str, str]) -> SeedNoise:
    """Fit the variances q_ta of all cells by scale_t factor_k, weighed by degrees of freedom d_ta.

    scale_t = sum_a d q / factor / sum_a d and factor_k = sum_{t, a in k} d q / scale / sum d in
    turn: the most likely ones for normal scores, whose q d / variance are chi-squared.

    Args:
        cells: {(row, arm): {seed: score}}.
        kind: {arm: arms of the same kind are equally noisy, up to the row's scale}.
    """
    several = {cell: list(seeds.values()) for cell, seeds in cells.items() if len(seeds) > 1}
    names = list(dict.fromkeys(row for row, _ in several))
    groups = list(dict.fromkeys(kind[arm] for _, arm in several))
    row = np.array([names.index(own) for own, _ in several], dtype=int)
    group = np.array([groups.index(kind[arm]) for _, arm in several], dtype=int)
    q = np.array([np.var(scores, ddof=1) for scores in several.values()])
    d = np.array([len(scores) - 1.0 for scores in several.values()])
    fitted = _fit(row, group, q, d)
    scale: dict[Row, float] = dict(zip(names, map(float, fitted[0]), strict=True))
    factor = dict(zip(groups, map(float, fitted[1]), strict=True))
    rows: dict[Row, float] = dict(zip(names, map(float, np.bincount(row, d)), strict=True))
    kinds = dict(zip(groups, map(float, np.bincount(group, d)), strict=True))
    return SeedNoise(scale, factor, _correlation(cells, scale, factor, kind), rows, kinds, kind)


def _fit(
    row: np.ndarray, group: np.ndarray, q: np.ndarray, d: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return scale (rows,) and factor (groups,) of cells with variances q and freedom d: (n,)."""
    freedom = np.bincount(row, d)
    factor = np.ones(group.max(initial=-1) + 1)
    scale = np.zeros(len(freedom))
    for _ in range(STEPS):
        scale = np.bincount(row, d * q / factor[group]) / freedom
        varies = scale[row] > 0
        weight = np.where(varies, d, 0.0)
        total = np.bincount(group, weight * q / np.where(varies, scale[row], 1.0))
        known = np.bincount(group, weight)
        new = np.maximum(np.where(known > 0, total / np.maximum(known, 1.0), 1.0), LEAST)
        if np.allclose(new, factor, rtol=CLOSE, atol=0):
            break
        factor = new
    return scale, factor


def _correlation(
    cells: Mapping[Cell, Mapping[int, float]],
    scale: Mapping[Row, float],
    factor: Mapping[str, float],
    kind: Mapping[str, str],
) -> float:
    deviations: dict[Row, list[dict[int, float]]] = {}
    for (row, arm), seeds in cells.items():
        if len(seeds) > 1 and scale[row] > 0:
            mean, sd = np.mean(list(seeds.values())), math.sqrt(scale[row] * factor[kind[arm]])
            own = {seed: float((value - mean) / sd) for seed, value in seeds.items()}
            deviations.setdefault(row, []).append(own)
    product, count = 0.0, 0
    for arms in deviations.values():
        for one, other in combinations(arms, 2):
            both = one.keys() & other.keys()
            product += sum(one[seed] * other[seed] for seed in both)
            count += max(len(both) - 1, 0)
    return float(np.clip(product / count, 0, MOST_CORRELATED)) if count else 0.0


PRIOR = 8  # degrees of freedom that the study's variance counts at most
ROUNDING = 1e-12  # deviations this small against the values are none


def moderated_variance(
    values: np.ndarray, noise: SeedNoise, row: Row, arm: str, base: str, c: float = 1.0
) -> tuple[float, float]:
    """Return the variance of one seed's a - c b, and its degrees of freedom.

    v = (g V + d s^2) / (g + d) with f' = max(min(f, 8 + d / 2), d) degrees of freedom, where s^2
    with d = n - 1 is the values' own, V with f is the study's (Noise.variance), g = min(f, 8).
    v = s^2 where the study knows no more than the values, f <= d.

    So an arm that is noisier in one task than elsewhere is still seen, and three seeds have more
    than two degrees of freedom. As in Smyth 2004, but with the prior's freedom from counting:
    too few variances are there to estimate it. g and f' were chosen by simulation
    (docs/explanation/statistics.md).

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


def is_rounding(variance: float, size: float) -> bool:
    """Return whether a variance is rounding: seeds don't vary."""
    return variance <= (ROUNDING * size) ** 2

"""How well a score ranks sources as their measured gains do: Kendall's tau, by permutations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from math import factorial

import numpy as np

LEAST, LEAST_INTERVAL = 3, 5  # sources: for a tau, for an interval
EXACT = 8  # most sources of which all orders are gone through
DRAWS = 10_000  # orders of more sources, and resamples of sources
LEVEL = 0.95


@dataclass
class RankAgreement:
    """tau: in [-1, 1]; None: it can't be had, and ``reason`` says why.

    sources: that have a score and a gain; pairs: of sources that differ in both, within tasks.
    p: share of the orders of gains within each task of which |tau| is at least as large.
    low, high: between which tau lies for 95 % of resamples of the sources; None for few sources.
    """

    tau: float | None
    sources: int
    pairs: int
    p: float | None = None
    low: float | None = None
    high: float | None = None
    reason: str | None = None


Column = tuple[np.ndarray, np.ndarray]  # scores and gains (n,) of the same sources, NaN for none


def rank_agreement(tasks: Sequence[Column], seed: int = 0) -> RankAgreement:
    """Return Kendall's tau-b of scores and gains over the pairs of sources within each task.

    tau = sum_t sum_{i<j} sign(x_i - x_j) sign(y_i - y_j) / sqrt(N_x N_y), N the pairs that differ.
    Several tasks are pooled pair by pair: scores of different tasks are never compared. p takes
    the tasks for independent.

    Source: Kendall 1945 (tau-b).
    """
    signs = [pair_signs(x, y) for x, y in tasks]
    known = np.any([~np.isnan(x) & ~np.isnan(y) for x, y in tasks], axis=0)
    sources = int(known.sum())
    pairs = int(sum((x * y != 0).sum() for x, y in signs) // 2)
    if sources < LEAST:
        reason = f"{sources} sources have a score and a gain, >= {LEAST} are needed"
        return RankAgreement(None, sources, pairs, reason=reason)
    tau = float(taus(signs, np.ones((1, len(known))))[0])
    if np.isnan(tau):
        reason = "all scores or all gains of a task are the same"
        return RankAgreement(None, sources, pairs, reason=reason)
    rng = np.random.default_rng(seed)
    found = RankAgreement(tau, sources, pairs, p=p_value(signs, tasks, rng))
    if sources >= LEAST_INTERVAL:
        names = np.flatnonzero(known)
        draws = rng.choice(names, (DRAWS, sources))
        counts = np.stack([(draws == at).sum(axis=1) for at in range(len(known))], axis=1)
        resampled = taus(signs, counts.astype(float))
        edges = np.nanquantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        found.low, found.high = map(float, edges)
    return found


def pair_signs(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the signs of x_i - x_j and y_i - y_j: (n, n) each, 0 where a value lacks."""
    both = ~np.isnan(x) & ~np.isnan(y)
    x, y = np.where(both, x, 0.0), np.where(both, y, 0.0)
    known = np.outer(both, both)
    return np.sign(x[:, None] - x) * known, np.sign(y[:, None] - y) * known


def taus(signs: Sequence[tuple[np.ndarray, np.ndarray]], counts: np.ndarray) -> np.ndarray:
    """Return tau of resamples in which source i is drawn counts[b, i] times: (B, n) -> (B,).

    NaN where nothing differs.
    """

    def pairs(matrix: np.ndarray) -> np.ndarray:
        """Return the sum of a matrix (n, n) over each resample's pairs: (B,)."""
        total: np.ndarray = np.einsum("bi,ij,bj->b", counts, matrix, counts, optimize=True)
        return total

    same = np.sum([pairs(x * y) for x, y in signs], axis=0)
    differ = [np.sum([pairs(np.abs(one[side])) for one in signs], axis=0) for side in (0, 1)]
    size = np.sqrt(differ[0] * differ[1])
    found: np.ndarray = np.divide(same, size, out=np.full(len(same), np.nan), where=size > 0)
    return found


def p_value(
    signs: Sequence[tuple[np.ndarray, np.ndarray]],
    tasks: Sequence[Column],
    rng: np.random.Generator,
) -> float:
    """Return the share of orders with |sum of signs| at least as large, two-sided."""
    total = {0: 1.0}
    for (x, y), column in zip(signs, tasks, strict=True):
        both = np.flatnonzero(~np.isnan(column[0]) & ~np.isnan(column[1]))
        own = distribution(x[np.ix_(both, both)], y[np.ix_(both, both)], rng)
        total = convolved(total, own)
    seen = abs(sum(int((x * y).sum()) for x, y in signs))
    return min(1.0, sum(share for value, share in total.items() if abs(value) >= seen))


def distribution(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> dict[int, float]:
    """Return {sum of signs: share of the orders of y that have it}."""
    n = len(x)
    if n <= EXACT:
        orders = np.array(list(permutations(range(n))), dtype=np.int64).reshape(factorial(n), n)
    else:
        drawn = rng.permuted(np.tile(np.arange(n), (DRAWS, 1)), axis=1)
        orders = np.concatenate([np.arange(n)[None], drawn])  # what is seen is one of them
    sums = sum(
        x[i, j] * y[orders[:, i], orders[:, j]] for i in range(n) for j in range(n) if i != j
    )
    values, counts = np.unique(np.broadcast_to(sums, len(orders)), return_counts=True)
    shares = counts / len(orders)
    return {int(value): float(share) for value, share in zip(values, shares, strict=True)}


def convolved(one: dict[int, float], other: dict[int, float]) -> dict[int, float]:
    """Return the distribution of the sum of two independent numbers."""
    found: dict[int, float] = {}
    for a, p in one.items():
        for b, q in other.items():
            found[a + b] = found.get(a + b, 0.0) + p * q
    return found

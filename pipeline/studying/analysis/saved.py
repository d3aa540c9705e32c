"""Labels that sharing saves, at the score that a task alone reaches with all of its labels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.optimize import isotonic_regression

from pipeline.studying.analysis.curves import Curve
from pipeline.studying.analysis.student import around
from pipeline.studying.analysis.table import Seeds
from pipeline.studying.answers import Estimate, Saved

ROUNDING = 1e-12  # of the largest score


def labels_for(score: float, labels: Sequence[int], scores: Sequence[float]) -> float | None:
    """Return the fewest labels that reach a score, by lines over log(labels); None: outside.

    Scores that fall with more labels are noise: the curve is the nearest that never does (least
    squares), so it reaches each score once.

    Args:
        labels: (n,), growing, > 0.
        scores: (n,).
    """
    rising = isotonic_regression(np.asarray(scores, dtype=float)).x
    edge = ROUNDING * float(np.abs(rising).max())
    if not rising[0] - edge <= score <= rising[-1] + edge:
        return None
    at = int(np.searchsorted(rising, score - edge))
    if rising[at] <= score + edge:
        return float(labels[at])
    part = (score - rising[at - 1]) / (rising[at] - rising[at - 1])
    return math.exp(math.log(labels[at - 1]) + part * math.log(labels[at] / labels[at - 1]))


def saved(curves: Sequence[Curve], level: float) -> list[Saved]:
    """Return what each arm's curve needs for what alone reaches with all labels."""
    alone = {one.task: one for one in curves if one.kind == "alone"}
    return [
        _saved(one, alone[one.task], level)
        for one in curves
        if one.kind != "alone" and one.task in alone
    ]


def _saved(curve: Curve, alone: Curve, level: float) -> Saved:
    of, full = list(alone.points.items())[-1]
    score = float(np.mean(list(full.values())))
    needed = needed_labels(curve.points, full, level)
    first = [float(np.mean(list(seeds.values()))) for seeds in curve.points.values()]
    rising = isotonic_regression(first).x
    beyond = None if needed else ("fewer" if score < rising[0] else "more")
    return Saved(curve.task, curve.arm, score, needed, of, beyond)  # type: ignore[arg-type]  # literal


def needed_labels(points: Mapping[int, Seeds], full: Seeds, level: float) -> Estimate | None:
    """Return the labels at which a curve reaches the mean of ``full``; None: outside.

    The interval is the jackknife's over the seeds that all points have, of log(labels) with
    Student's t: pseudo-values n theta - (n - 1) theta_(-s). An end is missing (None) where the
    curve of some n - 1 seeds doesn't reach the score.

    Source: Tukey 1958; Miller 1974.
    """
    labels = list(points)
    whole = _log_labels(labels, points, full, None)
    if whole is None:
        return None
    common = set.intersection(set(full), *(set(seeds) for seeds in points.values()))
    n = len(common)
    without = [_log_labels(labels, points, full, seed) for seed in sorted(common)] if n > 1 else []
    if n < 2 or None in without:
        return Estimate(math.exp(whole), None, None, n)
    pseudo = [n * whole - (n - 1) * one for one in without if one is not None]
    error = float(np.std(pseudo, ddof=1)) / math.sqrt(n)
    found = around(whole, error, n - 1, n, level)
    if found.low is None or found.high is None:
        return Estimate(math.exp(whole), None, None, n)
    return Estimate(math.exp(whole), math.exp(found.low), math.exp(found.high), n)


def _log_labels(
    labels: Sequence[int], points: Mapping[int, Seeds], full: Seeds, left_out: int | None
) -> float | None:
    def mean(seeds: Seeds) -> float:
        return float(np.mean([value for seed, value in seeds.items() if seed != left_out]))

    found = labels_for(mean(full), labels, [mean(seeds) for seeds in points.values()])
    return None if found is None else math.log(found)

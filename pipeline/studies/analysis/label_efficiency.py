"""Scores by number of labels, and the labels that sharing saves."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import isotonic_regression

from pipeline.studies.analysis.estimates import (
    IntervalEstimate,
    LabelSavings,
    mean_interval,
    t_interval,
)
from pipeline.studies.analysis.score_table import ScoreTable, Seeds, base_name, label_series
from pipeline.studies.results import StudyResults


@dataclass
class LabelCurve:
    """points: {labels: {seed: score}} of one task in one series of arms, few labels first."""

    arm: str
    task: str
    kind: str
    points: dict[int, Seeds] = field(default_factory=dict)

    def estimates(self, level: float) -> list[tuple[int, IntervalEstimate]]:
        return [(n, mean_interval(list(seeds.values()), level)) for n, seeds in self.points.items()]


def label_curves(results: StudyResults, table: ScoreTable, notes: list[str]) -> list[LabelCurve]:
    found: dict[tuple[Hashable, str], LabelCurve] = {}
    for name, arm in sorted(results.arms.items(), key=lambda item: item[1].labels):
        for task in arm.tasks:
            seeds = table.seeds(name, task)
            labels = _labels(results, name, task)
            if seeds and labels is None:
                if arm.labels < 1:
                    notes.append(f"{name}: the labels of {task} aren't known: not in its curve")
                continue
            if seeds and labels is not None:
                one = found.setdefault((label_series(arm), task), LabelCurve(name, task, arm.kind))
                one.arm = base_name(arm)
                one.points[labels] = seeds
    for one in found.values():
        one.points = dict(sorted(one.points.items()))
    return [one for one in found.values() if len(one.points) > 1]


def _labels(results: StudyResults, arm: str, task: str) -> int | None:
    """Return how many labels of a task an arm's runs saw, on average over seeds; None: unknown."""
    known = [trial.labels[task] for trial in results.finished(arm) if trial.labels.get(task)]
    return round(float(np.mean(known))) if known else None


ROUNDING = 1e-12  # of the largest score


def labels_to_reach(score: float, labels: Sequence[int], scores: Sequence[float]) -> float | None:
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


def label_savings(curves: Sequence[LabelCurve], level: float) -> list[LabelSavings]:
    """Return what each arm's curve needs for what the single-task run reaches with all labels."""
    single_task = {one.task: one for one in curves if one.kind == "single_task"}
    return [
        _curve_savings(one, single_task[one.task], level)
        for one in curves
        if one.kind != "single_task" and one.task in single_task
    ]


def _curve_savings(curve: LabelCurve, single_task: LabelCurve, level: float) -> LabelSavings:
    of, full = list(single_task.points.items())[-1]
    score = float(np.mean(list(full.values())))
    needed = needed_labels(curve.points, full, level)
    first = [float(np.mean(list(seeds.values()))) for seeds in curve.points.values()]
    rising = isotonic_regression(first).x
    beyond = None if needed else ("fewer" if score < rising[0] else "more")
    return LabelSavings(curve.task, curve.arm, score, needed, of, beyond)  # type: ignore[arg-type]  # literal


def needed_labels(
    points: Mapping[int, Seeds], full: Seeds, level: float
) -> IntervalEstimate | None:
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
        return IntervalEstimate(math.exp(whole), None, None, n)
    pseudo = [n * whole - (n - 1) * one for one in without if one is not None]
    error = float(np.std(pseudo, ddof=1)) / math.sqrt(n)
    found = t_interval(whole, error, n - 1, n, level)
    if found.low is None or found.high is None:
        return IntervalEstimate(math.exp(whole), None, None, n)
    return IntervalEstimate(math.exp(whole), math.exp(found.low), math.exp(found.high), n)


def _log_labels(
    labels: Sequence[int], points: Mapping[int, Seeds], full: Seeds, left_out: int | None
) -> float | None:
    def mean(seeds: Seeds) -> float:
        return float(np.mean([value for seed, value in seeds.items() if seed != left_out]))

    found = labels_to_reach(mean(full), labels, [mean(seeds) for seeds in points.values()])
    return None if found is None else math.log(found)

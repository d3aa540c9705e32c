"""Scores against what they cost: which arms nothing beats in both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from pipeline.studies.analysis.estimates import ArmComparison, CostPoint
from pipeline.studies.analysis.score_table import ArmCost, arm_cost, baseline_arms, total_cost
from pipeline.studies.results import StudyResults

SINGLE_TASK = "single_task"  # the name of all tasks' own models together


def pareto_points(
    results: StudyResults, comparisons: Mapping[str, ArmComparison]
) -> list[CostPoint]:
    """Return the ways to serve all tasks with all labels: single-task, multi-task, variants."""
    found = {}
    tasks = set(results.metrics)
    own = [
        arm for (task, share), arm in baseline_arms(results).items() if task in tasks and share == 1
    ]
    costs = [one for one in (arm_cost(results, arm) for arm in own) if one]
    if costs and len(costs) == len(tasks):
        found[SINGLE_TASK] = (0.0, total_cost(costs))
    for name, comparison in comparisons.items():
        arm, whole = results.arms[name], comparison.delta_m
        price = arm_cost(results, name)
        if set(comparison.changes) == tasks and arm.labels == 1 and whole and price:
            found[name] = (whole.difference.mean, price)
    return _points(found)


def _points(found: Mapping[str, tuple[float, ArmCost]]) -> list[CostPoint]:
    gains, costs = [gain for gain, _ in found.values()], [asdict(one) for _, one in found.values()]
    fronts = {
        what: pareto_front(gains, [cost[what] for cost in costs])
        for what in ("seconds", "parameters", "memory")
    }
    return [
        CostPoint(name, gain, **cost, front={what: front[at] for what, front in fronts.items()})
        for at, (name, gain, cost) in enumerate(zip(found, gains, costs, strict=True))
    ]


def pareto_front(gains: Sequence[float], prices: Sequence[float | None]) -> list[bool]:
    """Return which points no other is as good as in both and better than in one.

    Points of unknown price are on no front and keep none off it.

    Args:
        gains: (n,), larger is better; prices: (n,), smaller is better.
    """
    known = [(gain, price) for gain, price in zip(gains, prices, strict=True) if price is not None]
    return [
        price is not None
        and not any(g >= gain and p <= price and (g > gain or p < price) for g, p in known)
        for gain, price in zip(gains, prices, strict=True)
    ]

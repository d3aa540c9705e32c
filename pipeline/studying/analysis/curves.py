"""Scores by number of labels: arms that differ in nothing else."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

import numpy as np

from pipeline.studying.analysis.kinds import base_name, series
from pipeline.studying.analysis.student import estimate
from pipeline.studying.analysis.table import Seeds, Table
from pipeline.studying.answers import Estimate
from pipeline.studying.results import Results


@dataclass
class Curve:
    """points: {labels: {seed: score}} of one task in one series of arms, few labels first."""

    arm: str
    task: str
    kind: str
    points: dict[int, Seeds] = field(default_factory=dict)

    def estimates(self, level: float) -> list[tuple[int, Estimate]]:
        """Return [(labels, mean score with interval)]."""
        return [(n, estimate(list(seeds.values()), level)) for n, seeds in self.points.items()]


def curves(results: Results, table: Table, notes: list[str]) -> list[Curve]:
    """Return the curves of two points or more."""
    found: dict[tuple[Hashable, str], Curve] = {}
    for name, arm in sorted(results.arms.items(), key=lambda item: item[1].labels):
        for task in arm.tasks:
            seeds = table.seeds(name, task)
            labels = _labels(results, name, task)
            if seeds and labels is None:
                if arm.labels < 1:
                    notes.append(f"{name}: the labels of {task} aren't known: not in its curve")
                continue
            if seeds and labels is not None:
                one = found.setdefault((series(arm), task), Curve(name, task, arm.kind))
                one.arm = base_name(arm)
                one.points[labels] = seeds
    for one in found.values():
        one.points = dict(sorted(one.points.items()))
    return [one for one in found.values() if len(one.points) > 1]


def _labels(results: Results, arm: str, task: str) -> int | None:
    """Return how many labels of a task an arm's runs saw, on average over seeds; None: unknown."""
    known = [trial.labels[task] for trial in results.finished(arm) if trial.labels.get(task)]
    return round(float(np.mean(known))) if known else None

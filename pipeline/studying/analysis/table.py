"""Scores of a study's runs, by row, arm and seed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from pipeline.studying.results import Arm, Results, Scores, Trial

Seeds = dict[int, float]  # {seed: score}
Row = tuple[str, float]  # a task and the share of its labels


@dataclass
class Table:
    """cells: {arm: {task: {seed: finite score}}}; notes: what was left out."""

    cells: dict[str, dict[str, Seeds]]
    notes: list[str] = field(default_factory=list)

    def seeds(self, arm: str, task: str) -> Seeds:
        """Return an arm's scores of one task; empty where there are none."""
        return self.cells.get(arm, {}).get(task, {})


def on_test(trial: Trial) -> Scores:
    """Return what is reported."""
    return trial.test


def on_validation(trial: Trial) -> Scores:
    """Return what may be chosen by."""
    return trial.valid


def table(results: Results, scores: Callable[[Trial], Scores] = on_test) -> Table:
    """Return the finite scores of finished runs, each with its own tasks only."""
    found = Table({})
    for name, arm in results.arms.items():
        row = {task: _finite(results, arm, task, scores, found.notes) for task in arm.tasks}
        found.cells[name] = {task: seeds for task, seeds in row.items() if seeds}
    return found


def _finite(
    results: Results,
    arm: Arm,
    task: str,
    scores: Callable[[Trial], Scores],
    notes: list[str],
) -> Seeds:
    finished = list(results.finished(arm.name))
    found = {one.seed: scores(one)[task] for one in finished if task in scores(one)}
    if len(found) < len(finished):
        lack = [one.seed for one in finished if one.seed not in found]
        notes.append(f"{arm.name} has no score of {task} for {_seeds(lack)}: left out")
    bad = [seed for seed, value in found.items() if not math.isfinite(value)]
    if bad:
        notes.append(f"{arm.name}: the score of {task} isn't finite for {_seeds(bad)}: left out")
    return {seed: float(value) for seed, value in found.items() if seed not in bad}


def _seeds(seeds: list[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"

"""Scores and costs of a study's runs by task, arm and seed, and each arm's baselines."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from pipeline.studies.results import Arm, Scores, StudyResults

LABELS = "label_fraction="  # the override that sets their share


def noise_group(arm: Arm) -> str:
    """Return what arms of the same noise share: a variant's own name, otherwise their kind."""
    return base_name(arm) if arm.kind == "variant" else arm.kind


def label_series(arm: Arm) -> Hashable:
    """Return what arms share that differ by their labels only."""
    others = tuple(one for one in arm.overrides if not one.startswith(LABELS))
    return arm.kind, arm.tasks, others, arm.source, arm.weights


def base_name(arm: Arm) -> str:
    """Return an arm's name without its share of labels: multi_task of multi_task@0.1."""
    return arm.name.partition("@")[0] if arm.labels < 1 else arm.name


def baseline_arms(results: StudyResults) -> dict[tuple[str, float], str]:
    """Return {(task, share of the labels): its single-task arm}."""
    return {
        (arm.tasks[0], arm.labels): name
        for name, arm in results.arms.items()
        if arm.kind == "single_task" and arm.tasks
    }


def compared_arms(results: StudyResults) -> dict[str, Arm]:
    return {name: arm for name, arm in results.arms.items() if arm.kind != "single_task"}


Seeds = dict[int, float]  # {seed: score}
Split = Literal["test", "valid"]  # scores that are reported, and those that may be chosen by


@dataclass
class ScoreTable:
    """cells: {arm: {task: {seed: finite score}}}; notes: what was left out."""

    cells: dict[str, dict[str, Seeds]]
    notes: list[str] = field(default_factory=list)

    def seeds(self, arm: str, task: str) -> Seeds:
        return self.cells.get(arm, {}).get(task, {})


def score_table(results: StudyResults, split: Split = "test") -> ScoreTable:
    """Return the finite scores of finished runs, each with its own tasks only."""
    found = ScoreTable({})
    for name, arm in results.arms.items():
        row = {task: _finite(results, arm, task, split, found.notes) for task in arm.tasks}
        found.cells[name] = {task: seeds for task, seeds in row.items() if seeds}
    return found


def _finite(
    results: StudyResults,
    arm: Arm,
    task: str,
    split: Split,
    notes: list[str],
) -> Seeds:
    finished = list(results.finished(arm.name))
    scores: dict[int, Scores] = {one.seed: getattr(one, split) for one in finished}
    found = {seed: own[task] for seed, own in scores.items() if task in own}
    if len(found) < len(finished):
        lack = [one.seed for one in finished if one.seed not in found]
        notes.append(f"{arm.name} has no score of {task} for {_seeds(lack)}: left out")
    bad = [seed for seed, value in found.items() if not math.isfinite(value)]
    if bad:
        notes.append(f"{arm.name}: the score of {task} isn't finite for {_seeds(bad)}: left out")
    return {seed: float(value) for seed, value in found.items() if seed not in bad}


def _seeds(seeds: list[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


@dataclass(frozen=True)
class ArmCost:
    """seconds: of training and evaluation; parameters: weights; memory: bytes; None: unknown."""

    seconds: float
    parameters: int | None
    memory: int | None


def arm_cost(results: StudyResults, arm: str) -> ArmCost | None:
    """Return an arm's mean cost; None before a run of it has finished."""
    trials = list(results.finished(arm))
    if not trials:
        return None
    return ArmCost(
        float(np.mean([trial.seconds for trial in trials])),
        _mean([trial.parameters for trial in trials]),
        _mean([trial.memory for trial in trials]),
    )


def total_cost(costs: list[ArmCost]) -> ArmCost:
    """Return the cost of several models trained one after the other: memory is the largest's."""
    parameters = [one.parameters for one in costs if one.parameters is not None]
    memory = [one.memory for one in costs if one.memory is not None]
    return ArmCost(
        sum(one.seconds for one in costs),
        sum(parameters) if len(parameters) == len(costs) else None,
        max(memory) if memory and len(memory) == len(costs) else None,
    )


def _mean(values: list[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return round(float(np.mean(known))) if known else None

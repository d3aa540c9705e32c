"""Studies whose truth is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from pipeline.studies.results import Arm, StudyResults, TrialResult


def trial(arm: str, seed: int, test: Mapping[str, float], **options: object) -> TrialResult:
    known: dict[str, object] = {
        "status": "finished",
        "valid": dict(test),
        "labels": dict.fromkeys(test, 100),
        "seconds": 10.0 * len(test),
        "parameters": 1000 + 10 * len(test),
        "memory": 10**8,
    }
    return TrialResult(arm, seed, f"{arm}-{seed}", [], test=dict(test), **(known | options))  # type: ignore[arg-type]


def study(arms: Sequence[Arm], trials: Sequence[TrialResult], **options: object) -> StudyResults:
    tasks = sorted({task for arm in arms for task in arm.tasks})
    seeds = sorted({one.seed for one in trials})
    metrics = dict.fromkeys(tasks, "accuracy")
    return StudyResults(
        "planted", metrics, seeds, {arm.name: arm for arm in arms}, list(trials), **options
    )  # type: ignore[arg-type]


def single_task_arms(*tasks: str) -> list[Arm]:
    return [Arm(f"single_task:{task}", "single_task", (task,)) for task in tasks]


def scored(
    arms: Sequence[Arm], scores: Mapping[str, Mapping[str, Sequence[float]]]
) -> StudyResults:
    """{arm: {task: scores of seeds 0, 1, ...}}."""
    trials = [
        trial(arm, seed, {task: values[seed] for task, values in own.items()})
        for arm, own in scores.items()
        for seed in range(len(next(iter(own.values()))))
    ]
    return study(arms, trials)


def simple(multi_task: Sequence[float], base: Sequence[float], task: str = "a") -> StudyResults:
    """One task alone and in a multi-task run with another that never changes much."""
    arms = [*single_task_arms(task, "b"), Arm("multi_task", "multi_task", (task, "b"))]
    other = [0.5 + 0.01 * (seed % 2) for seed in range(len(base))]
    scores = {
        "single_task:b": {"b": other},
        "multi_task": {task: multi_task, "b": other[: len(multi_task)]},
    }
    return scored(arms, {f"single_task:{task}": {task: base}} | scores)


def everything(
    tasks: Sequence[str],
    seeds: int,
    rng: np.random.Generator,
    effect: Mapping[tuple[str, str], float] | None = None,
    sd: float = 0.01,
) -> StudyResults:
    """Alone, multi_task, two variants, pairs and transfers; effect: {(arm, task): true change}."""
    pairs = list(combinations(tasks, 2))
    arms = [
        *single_task_arms(*tasks),
        Arm("multi_task", "multi_task", tuple(tasks)),
        Arm("upgrad", "variant", tuple(tasks), ("balancer=upgrad",)),
        Arm("uncertainty", "variant", tuple(tasks), ("balancer=uncertainty",)),
        *(Arm(f"pair:{a}+{b}", "pair", (a, b)) for a, b in pairs),
        *(Arm(f"transfer:{a}>{b}", "transfer", (b,), source=a) for a, b in pairs),
    ]
    planted = effect or {}
    trials = [
        trial(
            arm.name,
            seed,
            {t: 0.8 + planted.get((arm.name, t), 0.0) + sd * rng.normal() for t in arm.tasks},
        )
        for arm in arms
        for seed in range(seeds)
    ]
    return study(arms, trials)

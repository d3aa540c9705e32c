"""What an arm costs: means over its finished runs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.studying.results import Results


@dataclass(frozen=True)
class Cost:
    """seconds: of training and evaluation; parameters: weights; memory: bytes; None: unknown."""

    seconds: float
    parameters: int | None
    memory: int | None


def cost(results: Results, arm: str) -> Cost | None:
    """Return an arm's mean cost; None before a run of it has finished."""
    trials = list(results.finished(arm))
    if not trials:
        return None
    return Cost(
        float(np.mean([trial.seconds for trial in trials])),
        _mean([trial.parameters for trial in trials]),
        _mean([trial.memory for trial in trials]),
    )


def together(costs: list[Cost]) -> Cost:
    """Return the cost of several models trained one after the other: memory is the largest's."""
    parameters = [one.parameters for one in costs if one.parameters is not None]
    memory = [one.memory for one in costs if one.memory is not None]
    return Cost(
        sum(one.seconds for one in costs),
        sum(parameters) if len(parameters) == len(costs) else None,
        max(memory) if memory and len(memory) == len(costs) else None,
    )


def _mean(values: list[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return round(float(np.mean(known))) if known else None

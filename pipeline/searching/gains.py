"""How much better one model answers the same rows than another, with an interval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lightning_modules.tasks.base import Task
from pipeline.searching.selection import Judge

RESAMPLES = 400
LEVEL = 0.95


@dataclass(frozen=True)
class Gain:
    """difference: of the scores; low, high: its 95 % interval over the rows."""

    difference: float
    low: float
    high: float

    @property
    def sure(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0


def gain(task: Task, own: Tensor, other: Tensor, target: Tensor, seed: int = 0) -> Gain:
    """Return what one model's answers gain over another's, of resampled rows.

    Both are scored on the same rows, drawn with replacement: what rows are easy counts for neither.
    Source: Efron & Tibshirani 1993, "An introduction to the bootstrap", chapter 13 (percentiles).

    Args:
        task: whose score.
        own, other: outputs (N, ...) of the models; target: (N, ...).
        seed: of the draws.
    """
    judge = Judge(task, target)
    whole = judge(own)[0] - judge(other)[0]
    draw, rows = np.random.default_rng(seed), len(target)
    found = []
    for _ in range(RESAMPLES):
        chosen = torch.from_numpy(draw.integers(0, rows, rows))
        found.append(
            judge.score(own[chosen], target[chosen]) - judge.score(other[chosen], target[chosen])
        )
    edge = 50 * (1 - LEVEL)
    low, high = np.nanpercentile(found, [edge, 100 - edge])
    return Gain(whole, float(low), float(high))

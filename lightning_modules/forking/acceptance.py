"""When a merge is good enough to go on from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

ROUNDING = 1e-6  # of scores, which are in 32 bits
Numbers = Mapping[str, float]  # {task: main score, larger is better}


@dataclass
class Acceptance:
    """No task may fall: s_t >= b_t - tolerance_t, b_t being its best accepted score.

    The best and not the last, so that small falls can't add up over the rounds.

    targets: tasks whose mean score is made large.
    tolerance: {task: largest fall, >= 0}; a task that isn't named may fall.
    baseline: {task: b_t}.
    """

    targets: Sequence[str]
    tolerance: Numbers
    baseline: dict[str, float] = field(default_factory=dict)

    def gain(self, scores: Numbers) -> float:
        """Return the mean score of the targets, -inf where one has none."""
        found = [scores.get(task, math.nan) for task in self.targets]
        mean = sum(found) / len(found)
        return -math.inf if math.isnan(mean) else mean

    def fallen(self, scores: Numbers) -> dict[str, float]:
        """Return {task: by how much it is below its baseline} where that is beyond tolerance.

        A score that is no number is a fall without end.
        """
        falls = {
            task: self.baseline[task] - scores.get(task, math.nan)
            for task in self.tolerance
            if task in self.baseline
        }
        falls = {task: math.inf if math.isnan(fall) else fall for task, fall in falls.items()}
        return {t: fall for t, fall in falls.items() if fall > self.tolerance[t] + ROUNDING}

    def value(self, scores: Numbers) -> float:
        """Return the gain of a merge, -inf for one that isn't accepted."""
        return -math.inf if self.fallen(scores) else self.gain(scores)

    def accept(self, scores: Numbers) -> None:
        """Let the baselines rise."""
        for task, score in scores.items():
            if not math.isnan(score):
                self.baseline[task] = max(score, self.baseline.get(task, score))

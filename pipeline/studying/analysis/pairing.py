"""Two arms with the same seeds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pipeline.studying.analysis.table import Seeds

ROUNDING = 1e-12  # of the largest score


@dataclass(frozen=True)
class Pair:
    """Scores of an arm and of its baseline for the n seeds that both have: (n,) each."""

    seeds: tuple[int, ...]
    arm: np.ndarray
    base: np.ndarray

    @cached_property
    def difference(self) -> np.ndarray:
        """Arm - baseline of each seed: (n,)."""
        found: np.ndarray = self.arm - self.base
        return found

    @cached_property
    def level(self) -> float:
        """Mean of the baseline."""
        return float(self.base.mean())

    @cached_property
    def ratio(self) -> float | None:
        """Mean difference / |mean baseline|; None where that is 0, but for rounding."""
        nothing = ROUNDING * float(np.abs([self.arm, self.base]).max())
        return (
            float(self.difference.mean()) / abs(self.level) if abs(self.level) > nothing else None
        )

    def relative(self) -> np.ndarray | None:
        """Return each seed's part in the ratio R: R + (a - c b) / |b|, c = 1 + R sign(b): (n,).

        Their mean is R and their spread that of R, the baseline's noise included (the ratio's
        linearisation, delta method); None where R is undefined.
        """
        if self.ratio is None:
            return None
        found: np.ndarray = self.ratio + (self.arm - self.c * self.base) / abs(self.level)
        return found

    @property
    def c(self) -> float:
        """Weight of the baseline in the ratio's error: 1 + R sign(baseline)."""
        return 1 + (self.ratio or 0.0) * math.copysign(1, self.level)


def pair(arm: Seeds, base: Seeds) -> Pair | None:
    """Return the seeds that both have; None for none."""
    seeds = tuple(sorted(arm.keys() & base.keys()))
    if not seeds:
        return None
    return Pair(seeds, np.array([arm[s] for s in seeds]), np.array([base[s] for s in seeds]))

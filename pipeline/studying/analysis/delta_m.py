"""The mean relative change over an arm's tasks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pipeline.studying.analysis.noise import Cell, Row, noise
from pipeline.studying.analysis.pairing import Pair, pair
from pipeline.studying.analysis.table import Seeds
from pipeline.studying.analysis.tested import Place, Tested, mean_of
from pipeline.studying.answers import Estimate

ALONE, SHARED = "alone", "shared"  # kinds of noise


@dataclass(frozen=True)
class Delta:
    """One arm's tasks against each alone, over the seeds that all have.

    tasks: of which a relative change is known; labels: their share.
    pairs: {task: scores}; empty seeds where the tasks have none in common.
    """

    tasks: tuple[str, ...]
    labels: float
    pairs: dict[str, Pair]
    mean: float

    @property
    def row(self) -> Row:
        """Arms of the same tasks and labels have the same noise."""
        return self.tasks, self.labels


def delta(arm: Mapping[str, Seeds], base: Mapping[str, Seeds], labels: float) -> Delta | None:
    """Return delta_m = mean_t (m_t - b_t) / |b_t|, m and b means over common seeds.

    None where no task has a baseline other than 0.

    Source: Maninis et al. 2019; Vandenhende et al. 2021. A score is
    larger when better, so the sign for errors is in it already.
    """
    own = {task: found for task in arm if (found := pair(arm[task], base.get(task, {})))}
    own = {task: found for task, found in own.items() if found.ratio is not None}
    if not own:
        return None
    common = set.intersection(*(set(one.seeds) for one in own.values()))
    shared = {task: _of(arm[task], base[task], common) for task in own} if common else {}
    known = {task: one for task, one in shared.items() if one and one.ratio is not None}
    complete = known if len(known) == len(own) else {}
    used = complete or own
    mean = float(np.mean([one.ratio for one in used.values()]))
    return Delta(tuple(own), labels, complete, mean)


def _of(arm: Seeds, base: Seeds, seeds: set[int]) -> Pair | None:
    return pair({seed: arm[seed] for seed in seeds}, base)


def tested_deltas(
    deltas: Mapping[str, Delta], alone: Mapping[tuple[str, float], Seeds], level: float
) -> dict[str, Tested]:
    """Return delta_m of each arm with its interval and test.

    Per seed it is the mean over tasks of each task's part in its ratio. Its noise is learnt from
    all arms of the same tasks at once, taken to be equally noisy.

    Args:
        deltas: {arm: its relative changes}.
        alone: {(task, share of labels): scores of the task alone}.
    """
    cells: dict[Cell, Seeds] = {}
    for arm, one in deltas.items():
        if one.pairs:
            cells[one.row, arm] = _mean({t: p.arm for t, p in one.pairs.items()}, one)
            cells[one.row, ALONE] = _together(one, alone)
    kinds = {arm: SHARED for _, arm in cells} | {ALONE: ALONE}
    learnt = noise(cells, kinds)
    return {
        arm: _tested(one, Place(learnt, one.row, arm, ALONE), level) for arm, one in deltas.items()
    }


def _tested(one: Delta, place: Place, level: float) -> Tested:
    if not one.pairs:
        nothing = Estimate(one.mean, None, None, 0)
        return Tested(nothing, nothing)
    known = [both.relative() for both in one.pairs.values()]
    parts = np.mean([part for part in known if part is not None], axis=0)
    c = math.sqrt(float(np.mean([both.c**2 for both in one.pairs.values()])))
    found, error, freedom, p = mean_of(parts, place, c, level)
    return Tested(found, found, p, error, freedom)


def _mean(values: Mapping[str, np.ndarray], one: Delta) -> Seeds:
    """Return the mean over tasks of the scores in units of their baselines."""
    scaled = [value / abs(one.pairs[task].level) for task, value in values.items()]
    seeds = next(iter(one.pairs.values())).seeds
    return dict(zip(seeds, map(float, np.mean(scaled, axis=0)), strict=True))


def _together(one: Delta, alone: Mapping[tuple[str, float], Seeds]) -> Seeds:
    """Return the tasks' baselines together, of all seeds that all of them have."""
    scores = [alone[task, one.labels] for task in one.tasks]
    levels = [abs(float(np.mean(list(own.values())))) or 1.0 for own in scores]
    seeds = sorted(set.intersection(*(set(own) for own in scores)))
    return {
        seed: float(np.mean([own[seed] / size for own, size in zip(scores, levels, strict=True)]))
        for seed in seeds
    }

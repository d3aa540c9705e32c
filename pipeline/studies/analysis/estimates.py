"""What a study's results say: estimates with intervals, and what follows from them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from scipy.special import stdtr, stdtrit

from pipeline.ranking.rank_agreement import RankAgreement

Verdict = Literal["helped", "hurt", "unclear"]
NegativeTransfer = Literal["none", "weak", "strong", "unclear"]


@dataclass(frozen=True)
class IntervalEstimate:
    """A mean over seeds: low and high enclose it at 95 %, None for a single seed.

    seeds: that it is of; 0 where tasks have none in common.
    """

    mean: float
    low: float | None
    high: float | None
    seeds: int


@dataclass(frozen=True)
class Change:
    """A difference to a baseline, of runs paired by seed.

    difference: in units of the score (an accuracy's points are 100 times it).
    relative: difference / |baseline|; None where the baseline is 0.
    p: of the paired test; adjusted: for all comparisons of the study (Holm 1979); None for a
        single seed, or where the seeds don't vary.
    verdict: helped or hurt where the adjusted test says so, otherwise unclear.
    """

    difference: IntervalEstimate
    relative: IntervalEstimate | None
    p: float | None
    adjusted: float | None
    verdict: Verdict


@dataclass(frozen=True)
class ArmComparison:
    """An arm against its tasks' single-task runs.

    changes: {task: change}; delta_m: mean over tasks of the relative changes, which is both its
        difference and its relative; None where no baseline is other than 0.
    """

    arm: str
    changes: dict[str, Change]
    delta_m: Change | None


@dataclass(frozen=True)
class TransferGain:
    """What a source task did for a target task.

    negative: weak or strong, by definition 3.1 of ForkMerge (Jiang et al. 2023).
    """

    source: str
    target: str
    arm: str
    gain: Change
    negative: NegativeTransfer


@dataclass(frozen=True)
class LabelSavings:
    """Labels that an arm needs less than the single-task run, at its accuracy with all labels.

    needed: labels for that accuracy, None beyond what was measured; of: its labels.
    beyond: fewer or more: than were measured, where needed is None.
    """

    task: str
    arm: str
    accuracy: float
    needed: IntervalEstimate | None
    of: int
    beyond: Literal["fewer", "more"] | None = None


@dataclass(frozen=True)
class TaskGrouping:
    """The best partition of the tasks among a number of models.

    groups: tasks of each model; served: {task: the arm whose model answers it}.
    delta_m: mean of the relative changes against single-task runs.
    seconds, parameters: of all models.
    predicted: groups that were not trained: their changes are means of their pairs' changes.
    """

    models: int
    groups: list[tuple[str, ...]]
    served: dict[str, str]
    delta_m: float
    seconds: float
    parameters: int | None
    predicted: list[tuple[str, ...]] = field(default_factory=list)


@dataclass(frozen=True)
class CostPoint:
    """An arm's score against what it costs; front: nothing is better and cheaper."""

    arm: str
    delta_m: float
    seconds: float
    parameters: int | None
    memory: int | None
    front: dict[str, bool]  # {seconds, parameters, memory: whether it is on that front}


@dataclass(frozen=True)
class ArmCalibration:
    """figures: {name in a run's ``calibration``: mean over seeds} of one task's runs in an arm.

    change: of the error before calibration, or after it where there is none before, to the
        single-task runs, paired by seed; None for these, and without a seed in common.
    """

    arm: str
    task: str
    figures: Mapping[str, IntervalEstimate]
    change: IntervalEstimate | None = None

    @property
    def is_worse(self) -> bool:
        """Whether its probabilities are surely further off than those of the single-task runs."""
        return self.change is not None and self.change.low is not None and self.change.low > 0


@dataclass
class StudyAnalysis:
    """All that a report shows.

    scores: {arm: {task: estimate}}; comparisons: {arm: against single-task runs}.
    curves: {arm without its share of labels: {task: [(labels, estimate)]}}, few labels first.
    agreement: {predictor: how well it ranks the measured gains}.
    least: {task: the smallest difference that these seeds could have shown, power 80 %}.
    calibrations: of arms and tasks whose runs are calibrated.
    """

    scores: dict[str, dict[str, IntervalEstimate]]
    comparisons: dict[str, ArmComparison]
    transfers: list[TransferGain] = field(default_factory=list)
    curves: dict[str, dict[str, list[tuple[int, IntervalEstimate]]]] = field(default_factory=dict)
    saved: list[LabelSavings] = field(default_factory=list)
    groupings: list[TaskGrouping] = field(default_factory=list)
    agreement: dict[str, RankAgreement] = field(default_factory=dict)
    points: list[CostPoint] = field(default_factory=list)
    least: dict[str, float | None] = field(default_factory=dict)
    calibrations: list[ArmCalibration] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def mean_interval(values: Sequence[float], level: float = 0.95) -> IntervalEstimate:
    """Return mean +- t_{(1 + level) / 2, n - 1} s / sqrt(n); a mean only for one value.

    For normal values this is the bootstrap of (mean - mu) / s with infinitely many resamples.
    Resampling the values themselves covers too rarely: n = 3 seeds have 10 different resamples.

    Source: Student 1908; docs/explanation/statistics.md compares it with bootstraps.

    Args:
        values: of n >= 1 seeds, finite.
        level: share of studies whose interval encloses the truth.
    """
    mean, n = float(np.mean(values)), len(values)
    if n < 2:
        return IntervalEstimate(mean, None, None, n)
    return t_interval(mean, float(np.std(values, ddof=1)) / math.sqrt(n), n - 1, n, level)


def t_interval(
    mean: float, error: float, freedom: float, seeds: int, level: float
) -> IntervalEstimate:
    """Return mean +- t error, t of ``freedom`` degrees of freedom, error the mean's own."""
    half = float(stdtrit(freedom, (1 + level) / 2)) * error
    return IntervalEstimate(mean, mean - half, mean + half, seeds)


def t_p_value(mean: float, error: float, freedom: float) -> float:
    """Return the two-sided p of mean = 0; error > 0 is the mean's own."""
    return float(2 * stdtr(freedom, -abs(mean) / error))

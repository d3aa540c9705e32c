"""A study and its analysis as a report shows them: order of arms, units, rounding."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from functools import cached_property

from pipeline.studies.analysis.estimates import ArmComparison, IntervalEstimate, StudyAnalysis
from pipeline.studies.results import Arm, ArmKind, StudyResults, TrialResult
from pipeline.text_format import NOTHING

SHARES = {"accuracy", "f1", "miou", "delta1", "precision", "recall", "auroc", "top5"}
MINUS, PLUS_MINUS = "\u2212", "\u00b1"


@dataclass(frozen=True)
class ScoreUnit:
    """factor: of a score in this unit; word: behind its number; digits: behind the point."""

    factor: float
    word: str
    digits: int

    def number(self, value: float, *, sign: bool = False) -> str:
        """Return a score or a change: 91.3, +1.2, with a digit more where it would be 0."""
        return rounded(self.factor * value, self.digits, sign=sign)

    def amount(self, value: float, *, sign: bool = False) -> str:
        """Return a number with its unit: 1.2 points."""
        return f"{self.number(value, sign=sign)}{self.word}"

    def within(self, value: float) -> float:
        """Return the nearest score that there is: shares end at 0 and 1."""
        return min(max(value, 0.0), 1.0) if self is POINTS else value


POINTS = ScoreUnit(100.0, " points", 1)
PLAIN = ScoreUnit(1.0, "", 3)
PERCENT = ScoreUnit(100.0, " %", 1)


def unit_of(metric: str) -> ScoreUnit:
    """Return the unit of a metric: points of a share of what is right, r2 and the like as it is."""
    name, _, rest = metric.partition("_")
    return POINTS if metric in SHARES or (name in SHARES and rest.isdigit()) else PLAIN


def rounded(value: float, digits: int, *, sign: bool = False) -> str:
    """Return a number with a fixed number of digits, up to two more for a small one."""
    if not math.isfinite(value):
        return NOTHING
    for _ in range(2):
        digits += bool(value) and abs(value) < 0.5 * 10.0**-digits
    text = f"{value:{'+' if sign else ''},.{digits}f}"
    if not float(text.replace(",", "")):
        text = text.lstrip("+-")
    return text.replace("-", MINUS)


def spread(found: IntervalEstimate, unit: ScoreUnit) -> str:
    """Return what follows a mean: `` ± 0.4``, `` (0.2 to 1.9)`` if uneven, nothing of one seed."""
    if found.low is None or found.high is None:
        return ""
    below, above = found.mean - found.low, found.high - found.mean
    if abs(above - below) <= 0.2 * max(above, below, 1e-12):
        return f" {PLUS_MINUS} {unit.number((above + below) / 2)}"
    return f" ({unit.number(found.low)} to {unit.number(found.high)})"


def estimate_text(found: IntervalEstimate | None, unit: ScoreUnit, *, sign: bool = False) -> str:
    """Return ``1.2 ± 0.4 points``, a dash for what isn't known."""
    if found is None:
        return NOTHING
    return f"{unit.number(found.mean, sign=sign)}{spread(found, unit)}{unit.word}"


def size_text(found: IntervalEstimate) -> IntervalEstimate:
    if found.mean >= 0:
        return found
    low, high = (None if end is None else -end for end in (found.high, found.low))
    return IntervalEstimate(-found.mean, low, high, found.seeds)


MULTI_TASK = "multi_task"
ORDER = {kind: place for place, kind in enumerate(
    ("multi_task", "variant", "group", "pair", "transfer", "single_task")
)}  # fmt: skip


@dataclass(frozen=True)
class ReportSubject:
    results: StudyResults
    answers: StudyAnalysis

    @property
    def tasks(self) -> list[str]:
        return list(self.results.metrics)

    @cached_property
    def units(self) -> dict[str, ScoreUnit]:
        return {task: unit_of(metric) for task, metric in self.results.metrics.items()}

    def axis_label(self, task: str) -> str:
        """Return the name of a task's score with its unit: ``accuracy, points``."""
        unit = self.units[task].word
        return self.results.metrics[task] + (f",{unit}" if unit else "")

    @cached_property
    def status(self) -> Counter[str]:
        return Counter(trial.status for trial in self.results.trials)

    @property
    def is_done(self) -> bool:
        return not self.status["waiting"] and not self.status["running"]

    @property
    def lost(self) -> list[TrialResult]:
        return [trial for trial in self.results.trials if trial.status in ("failed", "timeout")]

    @property
    def is_single(self) -> bool:
        """Say whether no comparison has more than one pair of seeds."""
        compared = self.answers.comparisons.values()
        changes = [change for comparison in compared for change in comparison.changes.values()]
        return bool(changes) and all(change.difference.low is None for change in changes)

    def arms(self, *kinds: ArmKind) -> list[Arm]:
        """Return the arms of some kinds, or all, with all labels; the multi-task run first."""
        own = [
            a for a in self.results.arms.values() if a.labels == 1 and a.kind in (kinds or ORDER)
        ]
        return sorted(own, key=lambda arm: ORDER[arm.kind])

    def compared(self, *kinds: ArmKind) -> list[ArmComparison]:
        return [
            self.answers.comparisons[arm.name]
            for arm in self.arms(*kinds)
            if arm.name in self.answers.comparisons and arm.kind != "single_task"
        ]

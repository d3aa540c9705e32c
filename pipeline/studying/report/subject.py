"""A study and its answers, with what all parts of a report ask of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property

from pipeline.studying.answers import Answers, Comparison
from pipeline.studying.report.units import Unit, unit_of
from pipeline.studying.results import Arm, Kind, Results, Trial

JOINT = "joint"
ORDER = {kind: place for place, kind in enumerate(
    ("joint", "variant", "group", "pair", "transfer", "alone")
)}  # fmt: skip


@dataclass(frozen=True)
class Subject:
    """results, answers: of one study."""

    results: Results
    answers: Answers

    @property
    def tasks(self) -> list[str]:
        """Return the names of all tasks."""
        return list(self.results.metrics)

    @cached_property
    def units(self) -> dict[str, Unit]:
        """Return {task: unit of its score}."""
        return {task: unit_of(metric) for task, metric in self.results.metrics.items()}

    @cached_property
    def status(self) -> Counter[str]:
        """Return {status: trials}."""
        return Counter(trial.status for trial in self.results.trials)

    @property
    def is_done(self) -> bool:
        """Say whether no trial is left to run."""
        return not self.status["waiting"] and not self.status["running"]

    @property
    def lost(self) -> list[Trial]:
        """Return the trials that gave nothing."""
        return [trial for trial in self.results.trials if trial.status in ("failed", "timeout")]

    @property
    def is_single(self) -> bool:
        """Say whether no comparison has more than one pair of seeds."""
        found = [
            change.difference.low is not None
            for comparison in self.answers.comparisons.values()
            for change in comparison.changes.values()
        ]
        return bool(found) and not any(found)

    def arms(self, *kinds: Kind) -> list[Arm]:
        """Return the arms of some kinds with all labels, or of all kinds, the joint run first."""
        own = [
            a for a in self.results.arms.values() if a.labels == 1 and a.kind in (kinds or ORDER)
        ]
        return sorted(own, key=lambda arm: ORDER[arm.kind])

    def compared(self, *kinds: Kind) -> list[Comparison]:
        """Return the comparisons of such arms."""
        return [
            self.answers.comparisons[arm.name]
            for arm in self.arms(*kinds)
            if arm.name in self.answers.comparisons and arm.kind != "alone"
        ]

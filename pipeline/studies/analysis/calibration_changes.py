"""What sharing did to how far answers can be trusted: calibration, coverage, rows out of scope."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pipeline.studies.analysis.estimates import ArmCalibration, ArmComparison, mean_interval
from pipeline.studies.analysis.score_table import baseline_arms
from pipeline.studies.results import StudyResults

# of a run's ``calibration``: error of probabilities before and after, of these larger is worse
BEFORE, AFTER = "ece_before", "ece"
SHOWN = (BEFORE, AFTER, "nll", "coverage", "size", "risk_area", "scope_area")


def arm_calibrations(results: StudyResults, level: float) -> Iterator[ArmCalibration]:
    """Yield each arm's and task's figures, of finished runs that are calibrated."""
    alone = baseline_arms(results)
    for name, arm in results.arms.items():
        for task in arm.tasks:
            own = _by_seed(results, name, task)
            if not own:
                continue
            figures = {
                key: mean_interval([one[key] for one in own.values() if key in one], level)
                for key in SHOWN
                if any(key in one for one in own.values())
            }
            other = alone.get((task, arm.labels))
            change = None
            if other is not None and other != name:
                others = _by_seed(results, other, task)
                gaps = [
                    own[seed][key] - others[seed][key]
                    for seed in own.keys() & others.keys()
                    for key in (BEFORE if BEFORE in own[seed] else AFTER,)
                    if key in own[seed] and key in others[seed]
                ]
                change = mean_interval(gaps, level) if gaps else None
            yield ArmCalibration(name, task, figures, change)


def _by_seed(results: StudyResults, arm: str, task: str) -> dict[int, dict[str, float]]:
    found = {one.seed: one.calibration.get(task, {}) for one in results.finished(arm)}
    return {seed: own for seed, own in found.items() if own}


def calibration_notes(
    calibrations: Iterable[ArmCalibration], comparisons: Iterable[ArmComparison]
) -> Iterator[str]:
    """Yield where a better score goes with worse probabilities."""
    helped = {
        (one.arm, task)
        for one in comparisons
        for task, change in one.changes.items()
        if change.verdict == "helped"
    }
    for one in calibrations:
        if one.is_worse and (one.arm, one.task) in helped and one.change is not None:
            yield (
                f"{one.arm}: {one.task} scores better than alone, and its probabilities are "
                f"further off, by {one.change.mean:.3f} (expected calibration error)"
            )

"""What a study says of calibration beside scores."""

from __future__ import annotations

import pytest

from pipeline.studies.analysis.analyze import analyze
from pipeline.studies.report.report_data import ReportSubject
from pipeline.studies.report.report_tables import calibration_table
from pipeline.studies.results import Arm, StudyResults, TrialResult


def trial(arm: str, seed: int, score: float, error: float) -> TrialResult:
    numbers = {"ece_before": error, "ece": 0.01, "nll": 0.5, "coverage": 0.9, "size": 1.2}
    return TrialResult(
        arm,
        seed,
        f"{arm}/{seed}",
        [],
        status="finished",
        test={"mood": score},
        calibration={"mood": numbers} if error else {},
    )


def results(errors: tuple[float, float]) -> StudyResults:
    arms = {
        "single_task:mood": Arm("single_task:mood", "single_task", ("mood",)),
        "multi_task": Arm("multi_task", "multi_task", ("mood",)),
    }
    alone, together = errors
    trials = [
        own
        for seed in range(5)
        for own in (
            trial("single_task:mood", seed, 0.7 + 0.001 * seed, alone and alone + 0.001 * seed),
            trial("multi_task", seed, 0.8 + 0.002 * seed, together and together + 0.0015 * seed),
        )
    ]
    return StudyResults("s", {"mood": "accuracy"}, list(range(5)), arms, trials)


def test_a_better_score_with_worse_probabilities_is_a_finding() -> None:
    found = analyze(results((0.02, 0.08)))
    joint = next(one for one in found.calibrations if one.arm == "multi_task")
    assert joint.change is not None
    assert joint.change.mean == pytest.approx(0.061)
    assert joint.is_worse
    assert any("multi_task: mood scores better than alone, and its" in n for n in found.notes)
    rows = calibration_table(ReportSubject(results((0.02, 0.08)), found)).rows
    assert [row[:2] for row in rows] == [["single_task:mood", "mood"], ["multi_task", "mood"]]
    assert rows[1][4].startswith("+0.061")


def test_better_probabilities_are_none_and_runs_without_calibration_say_nothing() -> None:
    found = analyze(results((0.08, 0.02)))
    assert not any(one.is_worse for one in found.calibrations)
    assert not any("further off" in note for note in found.notes)
    without = analyze(results((0.0, 0.0)))
    assert without.calibrations == []
    assert calibration_table(ReportSubject(results((0.0, 0.0)), without)).rows == []

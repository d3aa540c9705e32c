"""What the results of a study say, however far it has come."""

from __future__ import annotations

from pipeline.studies.analysis.calibration_changes import arm_calibrations, calibration_notes
from pipeline.studies.analysis.comparisons import compare
from pipeline.studies.analysis.estimates import StudyAnalysis, mean_interval
from pipeline.studies.analysis.label_efficiency import label_curves, label_savings
from pipeline.studies.analysis.paired_tests import median_detectable_difference
from pipeline.studies.analysis.pareto import pareto_points
from pipeline.studies.analysis.score_table import score_table
from pipeline.studies.analysis.task_grouping import best_groupings
from pipeline.studies.analysis.transfer_gains import predictor_agreements, transfer_gains
from pipeline.studies.results import StudyResults


def analyze(results: StudyResults, level: float = 0.95, seed: int = 0) -> StudyAnalysis:
    """Return all answers that finished runs give, and notes on what was left out.

    Args:
        results: of a study, finished or not.
        level: of the intervals; verdicts are false in at most 1 - level of studies.
        seed: of permutations and searches.
    """
    scores = score_table(results)
    compared = compare(results, scores, level)
    calibrations = list(arm_calibrations(results, level))
    notes = [*_state(results), *scores.notes, *compared.notes]
    notes += calibration_notes(calibrations, compared.comparisons.values())
    series = label_curves(results, scores, notes)
    gains = transfer_gains(results, compared.comparisons)
    found = StudyAnalysis(
        scores={
            arm: {task: mean_interval(list(seeds.values()), level) for task, seeds in own.items()}
            for arm, own in scores.cells.items()
            if own
        },
        comparisons=compared.comparisons,
        transfers=gains,
        saved=label_savings(series, level),
        groupings=best_groupings(results, scores, seed, notes),
        agreement=predictor_agreements(results, gains, seed),
        points=pareto_points(results, compared.comparisons),
        notes=notes,
        calibrations=calibrations,
    )
    for one in series:
        found.curves.setdefault(one.arm, {})[one.task] = one.estimates(level)
    for task in results.metrics:
        own = [
            test
            for (arm, of), test in compared.tests.items()
            if of == task and results.arms[arm].labels == 1
        ]
        found.least[task] = median_detectable_difference(own, compared.tests_done, level)
    found.notes = list(dict.fromkeys(notes))
    return found


def _state(results: StudyResults) -> list[str]:
    """Return notes on too few seeds; ``results`` say themselves which runs are missing."""
    finished = {trial.seed for trial in results.trials if trial.status == "finished"}
    if not finished:
        return ["no run has finished: nothing to compare yet"]
    if len(finished) == 1 < len(results.seeds):
        return ["only one seed has finished runs: no intervals and no tests yet"]
    return []

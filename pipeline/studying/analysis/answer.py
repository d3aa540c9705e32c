"""What the results of a study say, however far it has come."""

from __future__ import annotations

from pipeline.studying.analysis.comparisons import compare
from pipeline.studying.analysis.curves import curves
from pipeline.studying.analysis.groupings import groupings
from pipeline.studying.analysis.pareto import points
from pipeline.studying.analysis.power import least
from pipeline.studying.analysis.predictors import agreements
from pipeline.studying.analysis.saved import saved
from pipeline.studying.analysis.student import estimate
from pipeline.studying.analysis.table import Table, table
from pipeline.studying.analysis.transfers import transfers
from pipeline.studying.answers import Answers, Estimate
from pipeline.studying.results import Results


def answer(results: Results, level: float = 0.95, seed: int = 0) -> Answers:
    """Return all answers that finished runs give, and notes on what was left out.

    Args:
        results: of a study, finished or not.
        level: of the intervals; verdicts are false in at most 1 - level of studies.
        seed: of permutations and searches.
    """
    scores = table(results)
    compared = compare(results, scores, level)
    notes = [*_state(results), *scores.notes, *compared.notes]
    series = curves(results, scores, notes)
    gains = transfers(results, compared.comparisons)
    found = Answers(
        scores=_scores(scores, level),
        comparisons=compared.comparisons,
        transfers=gains,
        saved=saved(series, level),
        groupings=groupings(results, scores, seed, notes),
        agreement=agreements(results, gains, seed),
        points=points(results, compared.comparisons),
        notes=notes,
    )
    for one in series:
        found.curves.setdefault(one.arm, {})[one.task] = one.estimates(level)
    for task in results.metrics:
        own = [
            test
            for (arm, of), test in compared.tests.items()
            if of == task and results.arms[arm].labels == 1
        ]
        found.least[task] = least(own, compared.tests_done, level)
    found.notes = list(dict.fromkeys(notes))
    return found


def _scores(scores: Table, level: float) -> dict[str, dict[str, Estimate]]:
    return {
        arm: {task: estimate(list(seeds.values()), level) for task, seeds in own.items()}
        for arm, own in scores.cells.items()
        if own
    }


def _state(results: Results) -> list[str]:
    """Return notes on too few seeds; ``results`` say themselves which runs are missing."""
    finished = {trial.seed for trial in results.trials if trial.status == "finished"}
    if not finished:
        return ["no run has finished: nothing to compare yet"]
    if len(finished) == 1 < len(results.seeds):
        return ["only one seed has finished runs: no intervals and no tests yet"]
    return []

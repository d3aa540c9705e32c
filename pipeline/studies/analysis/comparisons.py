"""Every arm against its single-task baselines, by task and by delta_m, tests corrected together."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from pipeline.studies.analysis.estimates import ArmComparison, Change, IntervalEstimate, Verdict
from pipeline.studies.analysis.paired_tests import (
    NoiseContext,
    PairedScores,
    PairedTest,
    holm,
    paired_scores,
    paired_test,
    tested_mean,
)
from pipeline.studies.analysis.score_table import (
    ScoreTable,
    Seeds,
    baseline_arms,
    compared_arms,
    noise_group,
)
from pipeline.studies.analysis.seed_noise import Cell, Row, SeedNoise, fit_noise
from pipeline.studies.results import Arm, StudyResults

SINGLE_TASK, MULTI_TASK = "single_task", "shared"  # kinds of noise


@dataclass(frozen=True)
class DeltaM:
    """One arm's tasks against their single-task runs, over the seeds that all have.

    tasks: of which a relative change is known; labels: their share.
    pairs: {task: scores}; empty seeds where the tasks have none in common.
    """

    tasks: tuple[str, ...]
    labels: float
    pairs: dict[str, PairedScores]
    mean: float

    @property
    def row(self) -> Row:
        """Arms of the same tasks and labels have the same noise."""
        return self.tasks, self.labels


def delta_m(arm: Mapping[str, Seeds], base: Mapping[str, Seeds], labels: float) -> DeltaM | None:
    """Return delta_m = mean_t (m_t - b_t) / |b_t|, m and b means over common seeds.

    None where no task has a baseline other than 0.

    Source: Maninis et al. 2019; Vandenhende et al. 2021. A score is
    larger when better, so the sign for errors is in it already.
    """
    own = {task: found for task in arm if (found := paired_scores(arm[task], base.get(task, {})))}
    own = {task: found for task, found in own.items() if found.ratio is not None}
    if not own:
        return None
    common = set.intersection(*(set(one.seeds) for one in own.values()))
    shared = {task: _of(arm[task], base[task], common) for task in own} if common else {}
    known = {task: one for task, one in shared.items() if one and one.ratio is not None}
    complete = known if len(known) == len(own) else {}
    used = complete or own
    mean = float(np.mean([one.ratio for one in used.values()]))
    return DeltaM(tuple(own), labels, complete, mean)


def _of(arm: Seeds, base: Seeds, seeds: set[int]) -> PairedScores | None:
    return paired_scores({seed: arm[seed] for seed in seeds}, base)


def tested_deltas(
    deltas: Mapping[str, DeltaM], single_task: Mapping[tuple[str, float], Seeds], level: float
) -> dict[str, PairedTest]:
    """Return delta_m of each arm with its interval and test.

    Per seed it is the mean over tasks of each task's part in its ratio. Its noise is learnt from
    all arms of the same tasks at once, taken to be equally noisy.

    Args:
        deltas: {arm: its relative changes}.
        single_task: {(task, share of labels): scores of its single-task runs}.
    """
    cells: dict[Cell, Seeds] = {}
    for arm, one in deltas.items():
        if one.pairs:
            cells[one.row, arm] = _mean({t: p.arm for t, p in one.pairs.items()}, one)
            cells[one.row, SINGLE_TASK] = _common_baseline(one, single_task)
    kinds = {arm: MULTI_TASK for _, arm in cells} | {SINGLE_TASK: SINGLE_TASK}
    learnt = fit_noise(cells, kinds)
    return {
        arm: _tested(one, NoiseContext(learnt, one.row, arm, SINGLE_TASK), level)
        for arm, one in deltas.items()
    }


def _tested(one: DeltaM, context: NoiseContext, level: float) -> PairedTest:
    if not one.pairs:
        nothing = IntervalEstimate(one.mean, None, None, 0)
        return PairedTest(nothing, nothing)
    known = [both.relative() for both in one.pairs.values()]
    parts = np.mean([part for part in known if part is not None], axis=0)
    c = math.sqrt(float(np.mean([both.c**2 for both in one.pairs.values()])))
    found, error, freedom, p = tested_mean(parts, context, c, level)
    return PairedTest(found, found, p, error, freedom)


def _mean(values: Mapping[str, np.ndarray], one: DeltaM) -> Seeds:
    """Return the mean over tasks of the scores in units of their baselines."""
    scaled = [value / abs(one.pairs[task].level) for task, value in values.items()]
    seeds = next(iter(one.pairs.values())).seeds
    return dict(zip(seeds, map(float, np.mean(scaled, axis=0)), strict=True))


def _common_baseline(one: DeltaM, single_task: Mapping[tuple[str, float], Seeds]) -> Seeds:
    """Return the tasks' baselines together, of all seeds that all of them have."""
    scores = [single_task[task, one.labels] for task in one.tasks]
    levels = [abs(float(np.mean(list(own.values())))) or 1.0 for own in scores]
    seeds = sorted(set.intersection(*(set(own) for own in scores)))
    return {
        seed: float(np.mean([own[seed] / size for own, size in zip(scores, levels, strict=True)]))
        for seed in seeds
    }


DELTA = ""  # in place of a task: their mean


@dataclass
class AllComparisons:
    """tests: {(arm, task): its test}; tests_done: of the whole study, delta_m's included."""

    comparisons: dict[str, ArmComparison]
    tests: dict[tuple[str, str], PairedTest]
    tests_done: int
    notes: list[str] = field(default_factory=list)


def compare(results: StudyResults, table: ScoreTable, level: float) -> AllComparisons:
    """Return the changes of all arms, p adjusted over all tasks and delta_m of all arms."""
    notes: list[str] = []
    tests = _tests(results, table, level, notes) | _deltas(results, table, level)
    keys = [key for key, test in tests.items() if test.p is not None]
    adjusted = dict(zip(keys, holm([tests[key].p or 0.0 for key in keys]), strict=True))
    changes = {key: tested_change(test, adjusted.get(key), level) for key, test in tests.items()}
    found = {}
    for name, arm in compared_arms(results).items():
        own = {task: changes[name, task] for task in arm.tasks if (name, task) in changes}
        if own:
            found[name] = ArmComparison(name, own, changes.get((name, DELTA)) or _only(own))
            known = [task for task, one in own.items() if one.relative is not None]
            if 0 < len(known) < len(arm.tasks):
                notes.append(f"delta_m of {name} is of {', '.join(known)} only")
    return AllComparisons(found, tests, len(keys), notes)


def tested_change(test: PairedTest, adjusted: float | None, level: float) -> Change:
    """Return a test with its verdict, helped or hurt where adjusted p <= 1 - level."""
    verdict: Verdict = "unclear"
    if adjusted is not None and adjusted <= 1 - level:
        verdict = "helped" if test.difference.mean > 0 else "hurt"
    return Change(test.difference, test.relative, test.p, adjusted, verdict)


def _only(changes: Mapping[str, Change]) -> Change | None:
    """Return delta_m of a single relative change, which needs no second test; None for none."""
    for one in changes.values():
        if one.relative is not None:
            return Change(one.relative, one.relative, one.p, one.adjusted, one.verdict)
    return None


def study_noise(results: StudyResults, table: ScoreTable) -> SeedNoise:
    cells: dict[Cell, Seeds] = {
        ((task, arm.labels), name): table.seeds(name, task)
        for name, arm in results.arms.items()
        for task in arm.tasks
    }
    return fit_noise(cells, {name: noise_group(arm) for name, arm in results.arms.items()})


def _tests(
    results: StudyResults, table: ScoreTable, level: float, notes: list[str]
) -> dict[tuple[str, str], PairedTest]:
    learnt, single_task = study_noise(results, table), baseline_arms(results)
    found = {}
    left_out: dict[str, list[str]] = {}
    for name, arm in compared_arms(results).items():
        for task in arm.tasks:
            base = single_task.get((task, arm.labels))
            both = paired_scores(table.seeds(name, task), table.seeds(base, task)) if base else None
            if both is None or base is None:
                why = _uncompared(name, task, arm, base, table)
                left_out.setdefault(why, []).append(f"{name} ({task})")
                continue
            found[name, task] = paired_test(
                both, NoiseContext(learnt, (task, arm.labels), name, base), level
            )
            if both.ratio is None:
                notes.append(f"{base} scores 0 in {task}: {name} has no relative change there")
            elif len(both.seeds) > 1 and found[name, task].p is None:
                notes.append(f"{name} and {base} don't vary in {task} over seeds: no test")
    notes += [f"{why}: not compared: {', '.join(arms)}" for why, arms in left_out.items()]
    return found


def _uncompared(name: str, task: str, arm: Arm, base: str | None, table: ScoreTable) -> str:
    if base is None:
        share = "" if arm.labels == 1 else f" with {arm.labels:.0%} of the labels"
        return f"there is no single-task run of {task}{share}"
    if not table.seeds(name, task):
        return "no run has a score yet"
    if not table.seeds(base, task):
        return f"no run of {base} has a score yet"
    return f"no seed in common with {base}"


def _deltas(
    results: StudyResults, table: ScoreTable, level: float
) -> dict[tuple[str, str], PairedTest]:
    single_task = {key: table.seeds(base, key[0]) for key, base in baseline_arms(results).items()}
    deltas = {}
    for name, arm in compared_arms(results).items():
        own = {task: table.seeds(name, task) for task in arm.tasks}
        base: Mapping[str, dict[int, float]] = {
            t: single_task.get((t, arm.labels), {}) for t in own
        }
        found = delta_m(own, base, arm.labels)
        if found and len(found.tasks) > 1:
            deltas[name] = found
    return {(arm, DELTA): test for arm, test in tested_deltas(deltas, single_task, level).items()}

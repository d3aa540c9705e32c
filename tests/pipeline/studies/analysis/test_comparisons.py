"""Every arm against its single-task baselines; delta_m and relative changes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ttest_rel

from benchmarks.study_statistics import NULLS, compared, coverage, flags, scores
from pipeline.studies.analysis.comparisons import AllComparisons, compare, delta_m
from pipeline.studies.analysis.paired_tests import paired_scores
from pipeline.studies.analysis.score_table import score_table
from pipeline.studies.results import Arm, StudyResults
from tests.pipeline.studies.analysis.planted_studies import (
    everything,
    scored,
    simple,
    single_task_arms,
    study,
    trial,
)


def of(results: StudyResults) -> AllComparisons:
    return compare(results, score_table(results), 0.95)


def test_many_seeds_are_scipys_paired_test() -> None:
    # two arms and one task: nothing else to learn the noise from, so the values' own variance
    rng = np.random.default_rng(0)
    base, multi_task = rng.normal(0.8, 0.01, 12), rng.normal(0.81, 0.01, 12)
    arms = [*single_task_arms("a"), Arm("start", "transfer", ("a",), source="b")]
    found = of(scored(arms, {"single_task:a": {"a": list(base)}, "start": {"a": list(multi_task)}}))
    change = found.comparisons["start"].changes["a"]
    expected = ttest_rel(multi_task, base)
    noise_freedom = 1 / (1 / 22 + 1 / 22)
    assert noise_freedom <= 11
    assert change.p == pytest.approx(expected.pvalue)
    low, high = expected.confidence_interval(0.95)
    assert (change.difference.low, change.difference.high) == pytest.approx((low, high))
    assert change.adjusted == change.p  # delta_m of one task is no second test


def test_what_was_planted_is_found() -> None:
    effect = {("multi_task", "a"): 0.08, ("multi_task", "b"): -0.08, ("pair:a+b", "b"): -0.08}
    found = of(everything("abcd", 3, np.random.default_rng(0), effect))
    verdicts = {
        (arm, task): change.verdict
        for arm, one in found.comparisons.items()
        for task, change in one.changes.items()
        if change.verdict != "unclear"
    }
    assert verdicts == {
        ("multi_task", "a"): "helped",
        ("multi_task", "b"): "hurt",
        ("pair:a+b", "b"): "hurt",
    }


def test_pairs_are_by_the_seeds_that_both_have() -> None:
    arms = [*single_task_arms("a", "b"), Arm("multi_task", "multi_task", ("a", "b"))]
    trials = [trial("single_task:a", seed, {"a": 0.1 * seed}) for seed in (0, 1, 2, 3)]
    trials += [trial("single_task:b", seed, {"b": 0.5}) for seed in (0, 1)]
    trials += [trial("multi_task", seed, {"a": 0.1 * seed + 0.2, "b": 0.6}) for seed in (2, 3, 4)]
    found = of(study(arms, trials))
    change = found.comparisons["multi_task"].changes["a"]
    assert (change.difference.seeds, change.difference.mean) == (2, pytest.approx(0.2))
    assert "b" not in found.comparisons["multi_task"].changes
    assert found.notes == [
        "no seed in common with single_task:b: not compared: multi_task (b)",
        "delta_m of multi_task is of a only",
    ]


def test_one_seed_has_neither_interval_nor_test() -> None:
    found = of(simple([0.9], [0.8])).comparisons["multi_task"].changes["a"]
    assert (found.difference.mean, found.difference.low) == (pytest.approx(0.1), None)
    assert (found.p, found.adjusted, found.verdict) == (None, None, "unclear")


def test_seeds_that_do_not_vary_are_not_tested() -> None:
    arms = [*single_task_arms("a"), Arm("start", "transfer", ("a",), source="b")]
    found = of(scored(arms, {"single_task:a": {"a": [0.5] * 3}, "start": {"a": [0.7] * 3}}))
    change = found.comparisons["start"].changes["a"]
    assert (change.p, change.verdict) == (None, "unclear")
    assert found.notes == ["start and single_task:a don't vary in a over seeds: no test"]


def test_shares_of_labels_are_compared_with_the_same_share() -> None:
    arms = [
        *single_task_arms("a"),
        Arm("single_task:a@0.1", "single_task", ("a",), ("label_fraction=0.1",), labels=0.1),
        Arm("start@0.1", "transfer", ("a",), ("label_fraction=0.1",), source="b", labels=0.1),
        Arm("start@0.3", "transfer", ("a",), ("label_fraction=0.3",), source="b", labels=0.3),
    ]
    few = {"single_task:a@0.1": {"a": [0.5, 0.52]}, "start@0.1": {"a": [0.6, 0.62]}}
    rest = {"single_task:a": {"a": [0.9, 0.91]}, "start@0.3": {"a": [0.7, 0.7]}}
    found = of(scored(arms, few | rest))
    assert found.comparisons["start@0.1"].changes["a"].difference.mean == pytest.approx(0.1)
    assert found.notes == [
        "there is no single-task run of a with 30% of the labels: not compared: start@0.3 (a)"
    ]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.floats(0.1, 10), st.floats(-3, 3))
def test_scaling_and_moving_scores(seed: int, scale: float, add: float) -> None:
    results = everything("abc", 3, np.random.default_rng(seed))
    moved = everything("abc", 3, np.random.default_rng(seed))
    for one in moved.trials:
        one.test = {task: add + scale * score for task, score in one.test.items()}
    first, second = of(results).tests, of(moved).tests
    for key, test in first.items():
        if key[1]:  # delta_m is relative: it doesn't stay when scores are moved
            assert second[key].p == pytest.approx(test.p, rel=1e-6, abs=1e-12)
            assert second[key].difference.mean == pytest.approx(
                scale * test.difference.mean, abs=1e-9
            )


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.permutations(range(4)), st.permutations("abc"))
def test_names_of_seeds_and_order_of_runs_do_not_matter(
    seed: int, seeds: list[int], tasks: list[str]
) -> None:
    results = everything("abc", 4, np.random.default_rng(seed))
    expected = of(results)
    for one in results.trials:
        one.seed = seeds[one.seed]
    results.trials.reverse()
    results.arms = {
        name: Arm(
            arm.name, arm.kind, tuple(sorted(arm.tasks, key=tasks.index)), arm.overrides, arm.source
        )
        for name, arm in reversed(results.arms.items())
    }
    found = of(results)
    for key, test in expected.tests.items():
        assert found.tests[key].p == pytest.approx(test.p, rel=1e-6)
        assert found.tests[key].difference.low == pytest.approx(test.difference.low)


LUCK = 0.03  # that 200 studies add to a true share of 5 %, twice its standard error


@pytest.mark.parametrize(
    ("name", "seeds"),
    [("seeds correlate 0.5", 3), ("single-task 2x as noisy", 3), ("an arm 3x as noisy", 5)],
)
def test_unequal_noise_flags_nothing(name: str, seeds: int) -> None:
    rng = np.random.default_rng(0)
    found = [compared(NULLS[name](rng, seeds)) for _ in range(200)]
    assert np.mean([any(flags(one)) for one in found]) <= 0.05 + LUCK
    assert 0.93 <= np.mean([coverage(one, {}) for one in found]) <= 0.975


@pytest.mark.parametrize("seeds", [3, 5])
def test_studies_without_effects_flag_nothing(seeds: int) -> None:
    rng = np.random.default_rng(0)
    found = [compared(NULLS["equal, normal"](rng, seeds)) for _ in range(300)]
    assert np.mean([any(flags(one)) for one in found]) <= 0.05
    assert 0.93 <= np.mean([coverage(one, {}) for one in found]) <= 0.97


def test_copies_of_one_task_flag_nothing() -> None:
    """Tasks, pairs and transfers that are the same task with other seeds."""
    rng = np.random.default_rng(0)
    found = [of(everything("abcd", 3, rng)) for _ in range(150)]
    assert np.mean([any(flags(one)) for one in found]) <= 0.05


def test_finds_more_than_each_difference_alone() -> None:
    rng, found = np.random.default_rng(0), []
    for _ in range(150):
        y = scores(4)(rng, 5)
        y[0, 1] += 3
        found.append(compared(y).comparisons["v1"].changes["a"].verdict == "helped")
    assert np.mean(found) > 0.65  # 38 % by paired t-tests


ARMS = [*single_task_arms("a", "b"), Arm("multi_task", "multi_task", ("a", "b"))]


def compared_deltas(scores: dict[str, dict[str, list[float]]]):  # type: ignore[no-untyped-def]
    results = scored(ARMS, scores)
    return compare(results, score_table(results), 0.95)


def test_by_hand() -> None:
    # a: 0.5 -> 0.6 is +20 %, b: 0.8 -> 0.72 is -10 %
    found = compared_deltas(
        {
            "single_task:a": {"a": [0.5, 0.5]},
            "single_task:b": {"b": [0.7, 0.9]},
            "multi_task": {"a": [0.58, 0.62], "b": [0.64, 0.8]},
        }
    ).comparisons["multi_task"]
    assert found.changes["a"].difference.mean == pytest.approx(0.1)
    assert found.changes["a"].relative.mean == pytest.approx(0.2)
    assert found.changes["b"].relative.mean == pytest.approx(-0.1)
    assert found.delta_m.difference.mean == pytest.approx(0.05)
    assert found.delta_m.relative == found.delta_m.difference


def test_errors_are_scores_below_zero() -> None:
    # an error of 2 that falls to 1.5: the score rises from -2 by 25 %
    found = paired_scores({0: -1.5, 1: -1.4}, {0: -1.9, 1: -2.1})
    assert found is not None
    assert found.ratio == pytest.approx(0.55 / 2)
    assert np.mean(found.relative()) == pytest.approx(found.ratio)
    assert found.c == pytest.approx(1 - 0.275)


def test_a_baseline_of_zero_is_left_out() -> None:
    found = compared_deltas(
        {
            "single_task:a": {"a": [0.1, -0.1, 0.0]},
            "single_task:b": {"b": [0.5, 0.4, 0.6]},
            "multi_task": {"a": [0.3, 0.2, 0.4], "b": [0.6, 0.5, 0.7]},
        }
    )
    changes = found.comparisons["multi_task"]
    assert changes.changes["a"].relative is None
    assert changes.changes["a"].difference.mean == pytest.approx(0.3)
    assert changes.delta_m.difference.mean == pytest.approx(0.2)
    assert "single_task:a scores 0 in a: multi_task has no relative change there" in found.notes
    assert delta_m({"a": {0: 1.0}}, {"a": {0: 0.0}}, 1.0) is None


def test_tasks_without_a_common_seed_have_no_interval() -> None:
    multi_task = {"a": {0: 0.6, 1: 0.6}, "b": {0: 0.6, 1: 0.6}}
    found = delta_m(multi_task, {"a": {0: 0.5}, "b": {1: 0.5}}, 1.0)
    assert found is not None
    assert (found.mean, found.pairs) == (pytest.approx(0.2), {})


def test_ratio_counts_the_baselines_noise() -> None:
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(300):
        drawn = {
            "single_task:a": {"a": 1.0},
            "single_task:b": {"b": 1.0},
            "multi_task": {"a": 2.0, "b": 0.5},
        }
        scores = {
            arm: {task: list(mean + 0.1 * rng.normal(size=5)) for task, mean in own.items()}
            for arm, own in drawn.items()
        }
        found = compared_deltas(scores).comparisons["multi_task"]
        relative = [found.changes["a"].relative, found.changes["b"].relative]
        relative.append(found.delta_m.relative)
        covered.append(
            [
                one.low <= true <= one.high
                for one, true in zip(relative, (1, -0.5, 0.25), strict=True)
            ]
        )
    assert np.all(np.abs(np.mean(covered, axis=0) - 0.95) < 0.035)  # 1.3 % is the simulation's

"""Curves over labels, and labels saved."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pipeline.studies.analysis.label_efficiency import (
    label_curves,
    label_savings,
    labels_to_reach,
    needed_labels,
)
from pipeline.studies.analysis.score_table import score_table
from pipeline.studies.results import Arm, StudyResults
from tests.pipeline.studies.analysis.planted_studies import single_task_arms, study, trial

LABELS = (10, 100, 1000)


def test_labels_by_hand() -> None:
    # half way in accuracy is half way in log(labels)
    assert labels_to_reach(0.6, LABELS, [0.5, 0.7, 0.9]) == pytest.approx(math.sqrt(1000))
    assert labels_to_reach(0.7, LABELS, [0.5, 0.7, 0.9]) == 100
    assert labels_to_reach(0.5, LABELS, [0.5, 0.7, 0.9]) == 10


def test_outside_of_what_was_measured() -> None:
    assert labels_to_reach(0.4, LABELS, [0.5, 0.7, 0.9]) is None
    assert labels_to_reach(0.95, LABELS, [0.5, 0.7, 0.9]) is None


def test_curves_that_fall_on_the_way() -> None:
    # 0.8 and 0.6 become 0.7 each: reached first at 10 labels
    assert labels_to_reach(0.7, LABELS, [0.8, 0.6, 0.9]) == 10
    assert labels_to_reach(0.8, LABELS, [0.8, 0.6, 0.9]) == pytest.approx(math.sqrt(10**5))
    assert labels_to_reach(0.7, LABELS, [0.9, 0.7, 0.5]) == 10  # flat


def points(*scores: float, sd: float = 0.01, seeds: int = 3) -> dict[int, dict[int, float]]:
    rng = np.random.default_rng(0)
    return {
        n: {seed: score + sd * float(rng.normal()) for seed in range(seeds)}
        for n, score in zip(LABELS, scores, strict=True)
    }


def test_interval_of_seeds() -> None:
    found = needed_labels(points(0.5, 0.7, 0.9), {0: 0.8, 1: 0.81, 2: 0.79}, 0.95)
    assert found is not None and found.low is not None and found.high is not None
    assert 200 < found.low < found.mean < found.high < 500
    assert found.seeds == 3


def test_no_interval_where_a_seed_decides() -> None:
    found = needed_labels(points(0.5, 0.7, 0.9, sd=0.0), {0: 0.95, 1: 0.95, 2: 0.79}, 0.95)
    assert found is not None and (found.low, found.high) == (None, None)
    single = needed_labels(points(0.5, 0.7, 0.9, seeds=1), {0: 0.8}, 0.95)
    assert single is not None and (single.low, single.seeds) == (None, 1)


def test_intervals_cover_the_labels() -> None:
    rng, true = np.random.default_rng(0), labels_to_reach(0.78, LABELS, [0.6, 0.72, 0.82])
    covered = []
    for _ in range(400):
        drawn = {
            n: dict(enumerate(score + 0.01 * rng.normal(size=3)))
            for n, score in zip(LABELS, (0.6, 0.72, 0.82), strict=True)
        }
        found = needed_labels(drawn, dict(enumerate(0.78 + 0.01 * rng.normal(size=3))), 0.95)
        covered.append(found.low <= true <= found.high)  # type: ignore[operator,union-attr]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.03)  # 1.1 % is the simulation's


def few_labels(multi_task: tuple[float, float, float]) -> StudyResults:
    """Task a alone reaches 0.9 with all of 1000 labels."""
    arms, trials = [], []
    for share, labels, base, shared in zip(
        (0.01, 0.1, 1.0), LABELS, (0.5, 0.7, 0.9), multi_task, strict=True
    ):
        end = "" if share == 1 else f"@{share}"
        option = () if share == 1 else (f"label_fraction={share}",)
        arms.append(Arm(f"single_task:a{end}", "single_task", ("a",), option, labels=share))
        arms.append(Arm(f"multi_task{end}", "multi_task", ("a", "b"), option, labels=share))
        for seed, noise in enumerate((-0.01, 0.0, 0.01)):
            known = {"labels": {"a": labels, "b": 7}}
            trials.append(trial(f"single_task:a{end}", seed, {"a": base + noise}, **known))
            trials.append(trial(f"multi_task{end}", seed, {"a": shared - noise, "b": 0.5}, **known))
    return study([*arms, *single_task_arms("b")], trials)


def test_arms_that_differ_by_labels_are_one_curve() -> None:
    results = few_labels((0.6, 0.8, 0.95))
    found = {(one.arm, one.task): one for one in label_curves(results, score_table(results), [])}
    assert set(found) == {
        ("single_task:a", "a"),
        ("multi_task", "a"),
    }  # b has 7 labels in all of them
    estimates = found["multi_task", "a"].estimates(0.95)
    assert [labels for labels, _ in estimates] == [10, 100, 1000]
    assert estimates[1][1].mean == pytest.approx(0.8)


def test_labels_saved() -> None:
    results = few_labels((0.6, 0.8, 1.0))
    (found,) = label_savings(label_curves(results, score_table(results), []), 0.95)
    assert (found.task, found.arm, found.of, found.beyond) == ("a", "multi_task", 1000, None)
    assert found.accuracy == pytest.approx(0.9)
    assert found.needed is not None
    assert found.needed.mean == pytest.approx(math.sqrt(10**5), rel=1e-6)


@pytest.mark.parametrize(
    ("multi_task", "beyond"), [((0.6, 0.7, 0.8), "more"), ((0.92, 0.95, 0.97), "fewer")]
)
def test_labels_saved_beyond_what_was_measured(
    multi_task: tuple[float, float, float], beyond: str
) -> None:
    results = few_labels(multi_task)
    (found,) = label_savings(label_curves(results, score_table(results), []), 0.95)
    assert (found.needed, found.beyond) == (None, beyond)


def test_unknown_labels_are_said() -> None:
    results = few_labels((0.6, 0.8, 1.0))
    for one in results.trials:
        one.labels = {}
    notes: list[str] = []
    assert label_curves(results, score_table(results), notes) == []
    assert "multi_task@0.1: the labels of a aren't known: not in its curve" in notes

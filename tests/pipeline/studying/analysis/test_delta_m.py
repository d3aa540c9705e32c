"""delta_m and relative changes."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.studying.analysis.comparisons import compare
from pipeline.studying.analysis.delta_m import delta
from pipeline.studying.analysis.pairing import pair
from pipeline.studying.analysis.table import table
from pipeline.studying.results import Arm
from tests.pipeline.studying.analysis.planted import alone, scored

ARMS = [*alone("a", "b"), Arm("joint", "joint", ("a", "b"))]


def compared(scores: dict[str, dict[str, list[float]]]):  # type: ignore[no-untyped-def]
    results = scored(ARMS, scores)
    return compare(results, table(results), 0.95)


def test_by_hand() -> None:
    # a: 0.5 -> 0.6 is +20 %, b: 0.8 -> 0.72 is -10 %
    found = compared(
        {
            "alone:a": {"a": [0.5, 0.5]},
            "alone:b": {"b": [0.7, 0.9]},
            "joint": {"a": [0.58, 0.62], "b": [0.64, 0.8]},
        }
    ).comparisons["joint"]
    assert found.changes["a"].difference.mean == pytest.approx(0.1)
    assert found.changes["a"].relative.mean == pytest.approx(0.2)
    assert found.changes["b"].relative.mean == pytest.approx(-0.1)
    assert found.delta_m.difference.mean == pytest.approx(0.05)
    assert found.delta_m.relative == found.delta_m.difference


def test_errors_are_scores_below_zero() -> None:
    # an error of 2 that falls to 1.5: the score rises from -2 by 25 %
    found = pair({0: -1.5, 1: -1.4}, {0: -1.9, 1: -2.1})
    assert found is not None
    assert found.ratio == pytest.approx(0.55 / 2)
    assert np.mean(found.relative()) == pytest.approx(found.ratio)
    assert found.c == pytest.approx(1 - 0.275)


def test_a_baseline_of_zero_is_left_out() -> None:
    found = compared(
        {
            "alone:a": {"a": [0.1, -0.1, 0.0]},
            "alone:b": {"b": [0.5, 0.4, 0.6]},
            "joint": {"a": [0.3, 0.2, 0.4], "b": [0.6, 0.5, 0.7]},
        }
    )
    changes = found.comparisons["joint"]
    assert changes.changes["a"].relative is None
    assert changes.changes["a"].difference.mean == pytest.approx(0.3)
    assert changes.delta_m.difference.mean == pytest.approx(0.2)
    assert "alone:a scores 0 in a: joint has no relative change there" in found.notes
    assert delta({"a": {0: 1.0}}, {"a": {0: 0.0}}, 1.0) is None


def test_tasks_without_a_common_seed_have_no_interval() -> None:
    joint = {"a": {0: 0.6, 1: 0.6}, "b": {0: 0.6, 1: 0.6}}
    found = delta(joint, {"a": {0: 0.5}, "b": {1: 0.5}}, 1.0)
    assert found is not None
    assert (found.mean, found.pairs) == (pytest.approx(0.2), {})


def test_ratio_counts_the_baselines_noise() -> None:
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(300):
        drawn = {"alone:a": {"a": 1.0}, "alone:b": {"b": 1.0}, "joint": {"a": 2.0, "b": 0.5}}
        scores = {
            arm: {task: list(mean + 0.1 * rng.normal(size=5)) for task, mean in own.items()}
            for arm, own in drawn.items()
        }
        found = compared(scores).comparisons["joint"]
        relative = [found.changes["a"].relative, found.changes["b"].relative]
        relative.append(found.delta_m.relative)
        covered.append(
            [
                one.low <= true <= one.high
                for one, true in zip(relative, (1, -0.5, 0.25), strict=True)
            ]
        )
    assert np.all(np.abs(np.mean(covered, axis=0) - 0.95) < 0.035)  # 1.3 % is the simulation's

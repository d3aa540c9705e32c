"""Kendall's tau, its p and its interval."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kendalltau

from pipeline.ranking.rank_agreement import rank_agreement

NAN = np.nan


def numbers(*values: float) -> np.ndarray:
    return np.array(values, dtype=float)


def test_by_hand() -> None:
    # pairs: (1, 2) agree, (1, 3) agree, (2, 3) disagree; of 6 orders 2 have |tau| = 1, 4 have 1/3
    found = rank_agreement([(numbers(1, 2, 3), numbers(1, 3, 2))])
    assert (found.tau, found.sources, found.pairs) == (pytest.approx(1 / 3), 3, 3)
    assert found.p == pytest.approx(1.0)
    whole = rank_agreement([(numbers(1, 2, 3), numbers(5, 6, 9))])
    assert (whole.tau, whole.p) == (pytest.approx(1.0), pytest.approx(2 / 6))
    assert whole.low is None  # of three sources


@pytest.mark.parametrize("seed", range(3))
def test_tau_and_exact_p_are_scipys(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=7), rng.normal(size=7)
    expected = kendalltau(x, y, method="exact")
    found = rank_agreement([(x, y)])
    assert (found.tau, found.p) == pytest.approx((expected.statistic, expected.pvalue))


def test_ties_are_those_of_tau_b() -> None:
    x, y = numbers(1, 1, 2, 3, 3), numbers(2, 1, 1, 5, 4)
    assert rank_agreement([(x, y)]).tau == pytest.approx(kendalltau(x, y).statistic)


def test_many_sources_are_drawn() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=20)
    y = x + rng.normal(size=20)
    expected = kendalltau(x, y, method="asymptotic")
    found = rank_agreement([(x, y)])
    assert found.tau == pytest.approx(expected.statistic)
    assert found.p == pytest.approx(expected.pvalue, abs=0.01)
    assert found.low is not None and found.high is not None
    assert 0 < found.low < expected.statistic < found.high < 1


def test_sources_without_a_score_or_gain_are_left_out() -> None:
    full = rank_agreement([(numbers(1, 2, 3, 4), numbers(1, 3, 2, 4))])
    more = rank_agreement([(numbers(1, 2, NAN, 3, 9, 4), numbers(1, 3, 7, 2, NAN, 4))])
    assert more == full


def test_pooling_compares_within_tasks_only() -> None:
    # each task agrees wholly, though its numbers lie elsewhere
    tasks = [
        (numbers(1, 2, 3), numbers(0.1, 0.2, 0.3)),
        (numbers(7, 8, 9), numbers(-3, -2, -1)),
    ]
    found = rank_agreement(tasks)
    assert (found.tau, found.pairs) == (pytest.approx(1.0), 6)
    assert found.p == pytest.approx(2 / 36)  # of 6 x 6 orders


def test_a_task_without_any_score_changes_nothing() -> None:
    task, empty = (numbers(1, 2, 3), numbers(1, 3, 2)), (numbers(NAN, NAN, NAN), numbers(1, 2, 3))
    assert rank_agreement([task, empty]) == rank_agreement([task])


@pytest.mark.parametrize(
    ("x", "y", "reason"),
    [
        (numbers(1, 2), numbers(1, 2), "2 sources have a score and a gain, >= 3 are needed"),
        (numbers(NAN, 2, 3), numbers(1, 2, NAN), "1 sources have"),
        (numbers(4, 4, 4), numbers(1, 2, 3), "all scores or all gains of a task are the same"),
    ],
)
def test_too_little_is_said(x: np.ndarray, y: np.ndarray, reason: str) -> None:
    found = rank_agreement([(x, y)])
    assert found.tau is None
    assert str(found.reason).startswith(reason)

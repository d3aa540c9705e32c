"""Variances learnt from all runs of a study."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pipeline.studies.analysis.seed_noise import Cell, fit_noise, moderated_variance

KINDS = {"single_task:a": "single_task", "single_task:b": "single_task", "multi_task": "multi_task"}
A, B = ("a", 1.0), ("b", 1.0)


def cells(values: dict[Cell, list[float]]) -> dict[Cell, dict[int, float]]:
    return {cell: dict(enumerate(scores)) for cell, scores in values.items()}


def by_hand() -> dict[Cell, dict[int, float]]:
    """Variances 1, 4 (task a) and 4, 16 (task b): scale 1 to 4, multi_task 4 times alone's."""
    return cells(
        {
            (A, "single_task:a"): [0, 1, -1],
            (A, "multi_task"): [2, -2, 0],
            (B, "single_task:b"): [-2, 0, 2],
            (B, "multi_task"): [0, 4, -4],
        }
    )


def test_product_of_scale_and_factor_by_hand() -> None:
    found = fit_noise(by_hand(), KINDS)
    assert found.scale[B] / found.scale[A] == pytest.approx(4)
    assert found.factor["multi_task"] / found.factor["single_task"] == pytest.approx(4)
    assert found.scale[A] * found.factor["single_task"] == pytest.approx(1)
    # standardised: a (0, 1, -1) and (1, -1, 0), b (-1, 0, 1) and (0, 1, -1): sums -1 and -1
    assert found.correlation == 0
    value, freedom = found.variance(A, "multi_task", "single_task:a")
    assert value == pytest.approx(5)
    # the row has 4; Satterthwaite (4 + 1)^2 / (16 / 4 + 1 / 4)
    assert freedom == pytest.approx(1 / (1 / 4 + 17 / 100))
    assert found.variance(B, "multi_task", "single_task:b", c=0.5)[0] == pytest.approx(16 + 1)


def test_correlation_by_hand() -> None:
    same = cells({(A, "single_task:a"): [0, 1, -1], (A, "multi_task"): [0.5, 1, 0]})
    found = fit_noise(same, KINDS)
    assert found.correlation == pytest.approx(0.95)  # at most
    value = found.variance(A, "multi_task", "single_task:a")[0]
    assert value == pytest.approx(1 + 0.25 - 2 * 0.95 * 0.5)


def test_rows_and_kinds_are_recovered_from_many_seeds() -> None:
    rng = np.random.default_rng(0)
    sd = {"single_task:a": 1.0, "single_task:b": 2.0, "multi_task": 3.0}
    shared = {A: rng.normal(size=4000), B: rng.normal(size=4000)}
    drawn = {
        (row, arm): list(
            scale
            * sd[arm]
            * (math.sqrt(0.5) * rng.normal(size=4000) + math.sqrt(0.5) * shared[row])
        )
        for row, scale, arms in (
            (A, 1.0, ["single_task:a", "multi_task"]),
            (B, 0.1, ["single_task:b", "multi_task"]),
        )
        for arm in arms
    }
    found = fit_noise(cells(drawn), KINDS | {"single_task:b": "other"})
    assert found.correlation == pytest.approx(0.5, abs=0.03)
    assert found.variance(A, "multi_task", "single_task:a")[0] == pytest.approx(9 + 1 - 3, rel=0.06)
    assert found.variance(B, "multi_task", "single_task:b")[0] == pytest.approx(
        0.13 - 0.06, rel=0.06
    )


def test_no_freedom_without_seeds() -> None:
    assert fit_noise({}, {}).variance(A, "multi_task", "single_task:a") == (0.0, 0.0)
    one = fit_noise(cells({(A, "single_task:a"): [1.0], (A, "multi_task"): [2.0]}), KINDS)
    assert one.variance(A, "multi_task", "single_task:a") == (0.0, 0.0)


def test_seeds_that_do_not_vary() -> None:
    found = fit_noise(cells({(A, "single_task:a"): [1, 1, 1], (A, "multi_task"): [2, 2, 2]}), KINDS)
    assert found.variance(A, "multi_task", "single_task:a")[0] == 0
    some = fit_noise(cells({(A, "single_task:a"): [1, 1, 1], (A, "multi_task"): [2, 3, 4]}), KINDS)
    assert some.variance(A, "multi_task", "single_task:a")[0] == pytest.approx(1, rel=0.01)


def test_own_variance_is_drawn_towards_the_studys() -> None:
    learnt = fit_noise(by_hand(), KINDS)
    study, f = learnt.variance(A, "multi_task", "single_task:a")
    values = np.array([2.0, -3.0, 1.0])  # s^2 = 7, d = 2
    v, freedom = moderated_variance(values, learnt, A, "multi_task", "single_task:a")
    assert v == pytest.approx((f * study + 2 * 7) / (f + 2))
    assert freedom == pytest.approx(f)


def test_many_seeds_keep_their_own_variance() -> None:
    learnt = fit_noise(by_hand(), KINDS)
    values = np.random.default_rng(0).normal(0, 9, 10)
    v, freedom = moderated_variance(values, learnt, A, "multi_task", "single_task:a")
    assert (v, freedom) == (pytest.approx(np.var(values, ddof=1)), 9)

"""Means of few seeds and their intervals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_1samp

from pipeline.studies.analysis.estimates import mean_interval, t_p_value


def test_by_hand() -> None:
    # mean 2, s = 1, t_{0.975, 2} = 4.302653: 2 +- 4.302653 / sqrt(3)
    found = mean_interval([1.0, 2.0, 3.0])
    assert (found.mean, found.seeds) == (2.0, 3)
    assert (found.low, found.high) == pytest.approx((-0.484138, 4.484138), abs=1e-6)


def test_one_seed_has_no_interval() -> None:
    found = mean_interval([0.7])
    assert (found.mean, found.low, found.high, found.seeds) == (0.7, None, None, 1)


def test_seeds_that_do_not_vary() -> None:
    found = mean_interval([0.5, 0.5, 0.5])
    assert (found.low, found.high) == (0.5, 0.5)


@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
def test_interval_and_p_are_scipys(level: float) -> None:
    values = list(np.random.default_rng(0).normal(0.3, 1, 7))
    expected = ttest_1samp(values, 0)
    low, high = expected.confidence_interval(level)
    found = mean_interval(values, level)
    assert (found.low, found.high) == pytest.approx((low, high))
    error = np.std(values, ddof=1) / np.sqrt(7)
    assert t_p_value(found.mean, float(error), 6) == pytest.approx(expected.pvalue)


@given(
    st.lists(st.floats(-1, 1), min_size=2, max_size=8),
    st.floats(-5, 5),
    st.floats(0.1, 10),
)
def test_moves_and_scales_with_the_scores(values: list[float], add: float, scale: float) -> None:
    one, other = mean_interval(values), mean_interval([add + scale * value for value in values])
    assert one.low is not None and one.high is not None
    expected = [add + scale * end for end in (one.mean, one.low, one.high)]
    assert [other.mean, other.low, other.high] == pytest.approx(expected, abs=1e-9)


def skewed(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    found: np.ndarray = (16 - rng.gamma(16, size=size)) / 4  # skewness -0.5
    return found


SHAPES = {
    "normal": lambda rng, size: rng.normal(size=size),
    "heavy": lambda rng, size: rng.standard_t(5, size=size),
    "skewed": skewed,
}


@pytest.mark.parametrize("n", [3, 5, 10, 20])
@pytest.mark.parametrize("shape", SHAPES)
def test_intervals_cover_the_mean(shape: str, n: int) -> None:
    samples = SHAPES[shape](np.random.default_rng(n), (3000, n))  # type: ignore[no-untyped-call]
    ends = [(one.low, one.high) for one in map(mean_interval, samples)]
    covered = np.mean([low <= 0 <= high for low, high in ends if low is not None])
    assert 0.93 <= covered <= 0.97  # 0.4 % of it is the simulation's error

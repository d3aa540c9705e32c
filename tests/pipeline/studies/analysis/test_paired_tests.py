"""Holm's adjusted p, and the power of tests."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import nct
from scipy.stats import t as student

from pipeline.studies.analysis.estimates import IntervalEstimate
from pipeline.studies.analysis.paired_tests import (
    PairedTest,
    detectable_difference,
    holm,
    median_detectable_difference,
    power,
)

PS = st.lists(st.floats(0, 1), min_size=1, max_size=12)


def test_by_hand() -> None:
    # sorted 0.01, 0.02, 0.03, 0.6: times 4, 3, 2, 1; never less than the one before
    assert holm([0.03, 0.01, 0.6, 0.02]) == pytest.approx([0.06, 0.04, 0.6, 0.06])
    assert holm([0.4, 0.9]) == pytest.approx([0.8, 0.9])
    assert holm([0.04]) == [0.04]
    assert holm([]) == []


@given(PS, st.randoms())
def test_order_does_not_matter(p: list[float], random: object) -> None:
    order = list(range(len(p)))
    random.shuffle(order)  # type: ignore[attr-defined]
    whole = holm(p)
    assert holm([p[at] for at in order]) == [whole[at] for at in order]


@given(PS)
def test_between_the_test_alone_and_bonferroni(p: list[float]) -> None:
    for one, adjusted in zip(p, holm(p), strict=True):
        assert one <= adjusted <= 1
    assert min(holm(p)) == pytest.approx(min(1.0, len(p) * min(p)))


def test_false_flags_of_independent_tests() -> None:
    p = np.random.default_rng(0).uniform(size=(4000, 10))
    assert np.mean([min(holm(row)) <= 0.05 for row in p]) == pytest.approx(0.05, abs=0.01)


NOTHING = IntervalEstimate(0.0, None, None, 3)


@pytest.mark.parametrize("freedom", [4.0, 8.5, 20.0])
@pytest.mark.parametrize("effect", [0.0, 2.0, 5.0])
def test_power_is_scipys(effect: float, freedom: float) -> None:
    c = student.ppf(0.99, freedom)
    expected = nct.sf(c, freedom, effect) + nct.cdf(-c, freedom, effect)
    assert power(effect, freedom, 0.02) == pytest.approx(expected, abs=2e-3)


def test_least_difference_is_found_in_80_percent() -> None:
    found = detectable_difference(0.5, 6.0, 0.01)
    assert power(found / 0.5, 6.0, 0.01) == pytest.approx(0.8, abs=1e-6)


def test_more_tests_show_less() -> None:
    tests = [
        PairedTest(NOTHING, None, 0.5, 0.01, 6.0),
        PairedTest(NOTHING, None, 0.2, 0.01, 6.0),
    ]
    few, many = (
        median_detectable_difference(tests, 2, 0.95),
        median_detectable_difference(tests, 20, 0.95),
    )
    assert few is not None and many is not None and few < many
    assert few == pytest.approx(detectable_difference(0.01, 6.0, 0.025))


def test_nothing_without_tests() -> None:
    assert median_detectable_difference([], 0, 0.95) is None
    assert median_detectable_difference([PairedTest(NOTHING, None)], 0, 0.95) is None

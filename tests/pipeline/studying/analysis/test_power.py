"""What could have been found."""

from __future__ import annotations

import pytest
from scipy.stats import nct
from scipy.stats import t as student

from pipeline.studying.analysis import tested
from pipeline.studying.analysis.power import least, least_difference, power
from pipeline.studying.answers import Estimate

NOTHING = Estimate(0.0, None, None, 3)


@pytest.mark.parametrize("freedom", [4.0, 8.5, 20.0])
@pytest.mark.parametrize("effect", [0.0, 2.0, 5.0])
def test_power_is_scipys(effect: float, freedom: float) -> None:
    c = student.ppf(0.99, freedom)
    expected = nct.sf(c, freedom, effect) + nct.cdf(-c, freedom, effect)
    assert power(effect, freedom, 0.02) == pytest.approx(expected, abs=2e-3)


def test_least_difference_is_found_in_80_percent() -> None:
    found = least_difference(0.5, 6.0, 0.01)
    assert power(found / 0.5, 6.0, 0.01) == pytest.approx(0.8, abs=1e-6)


def test_more_tests_show_less() -> None:
    tests = [
        tested.Tested(NOTHING, None, 0.5, 0.01, 6.0),
        tested.Tested(NOTHING, None, 0.2, 0.01, 6.0),
    ]
    few, many = least(tests, 2, 0.95), least(tests, 20, 0.95)
    assert few is not None and many is not None and few < many
    assert few == pytest.approx(least_difference(0.01, 6.0, 0.025))


def test_nothing_without_tests() -> None:
    assert least([], 0, 0.95) is None
    assert least([tested.Tested(NOTHING, None)], 0, 0.95) is None

"""Holm's adjusted p."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.studying.analysis.holm import holm

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

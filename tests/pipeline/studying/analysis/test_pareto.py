"""Scores against costs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.studying.analysis.comparisons import compare
from pipeline.studying.analysis.pareto import front, points
from pipeline.studying.analysis.table import table
from pipeline.studying.results import Arm
from tests.pipeline.studying.analysis.planted import alone, scored

POINT = st.tuples(st.integers(0, 5), st.one_of(st.none(), st.integers(0, 5)))


def test_front_by_hand() -> None:
    gains, prices = [0.0, 0.1, 0.1, 0.2], [1.0, 2.0, 3.0, 9.0]
    assert front(gains, prices) == [True, True, False, True]
    assert front([0.1, 0.1], [2.0, 2.0]) == [True, True]  # neither is better
    assert front([0.1, 0.2], [2.0, None]) == [True, False]


@given(st.lists(POINT, min_size=1, max_size=10))
def test_what_is_off_the_front_is_beaten_by_what_is_on_it(
    drawn: list[tuple[int, int | None]],
) -> None:
    on = front([gain for gain, _ in drawn], [price for _, price in drawn])
    best = [one for one, is_on in zip(drawn, on, strict=True) if is_on]
    for (gain, price), is_on in zip(drawn, on, strict=True):
        if price is not None and not is_on:
            assert any(g >= gain and p <= price for g, p in best if p is not None)


def test_all_alone_are_one_point() -> None:
    arms = [*alone("a", "b"), Arm("joint", "joint", ("a", "b")), Arm("ab", "pair", ("a", "b"))]
    scores = {"alone:a": {"a": [0.5]}, "alone:b": {"b": [0.5]}}
    scores |= {"joint": {"a": [0.6], "b": [0.5]}}
    results = scored(arms, scores)
    found = points(results, compare(results, table(results), 0.95).comparisons)
    assert [(one.arm, one.seconds, one.parameters) for one in found] == [
        ("alone", 20.0, 2020),
        ("joint", 20.0, 1020),
    ]
    assert [one.front["parameters"] for one in found] == [False, True]
    results.trials[0].parameters = None
    unknown = points(results, compare(results, table(results), 0.95).comparisons)[0]
    assert (unknown.parameters, unknown.front["parameters"]) == (None, False)

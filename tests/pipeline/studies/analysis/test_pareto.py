"""Scores against costs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.studies.analysis.comparisons import compare
from pipeline.studies.analysis.pareto import pareto_front, pareto_points
from pipeline.studies.analysis.score_table import score_table
from pipeline.studies.results import Arm
from tests.pipeline.studies.analysis.planted_studies import scored, single_task_arms

POINT = st.tuples(st.integers(0, 5), st.one_of(st.none(), st.integers(0, 5)))


def test_front_by_hand() -> None:
    gains, prices = [0.0, 0.1, 0.1, 0.2], [1.0, 2.0, 3.0, 9.0]
    assert pareto_front(gains, prices) == [True, True, False, True]
    assert pareto_front([0.1, 0.1], [2.0, 2.0]) == [True, True]  # neither is better
    assert pareto_front([0.1, 0.2], [2.0, None]) == [True, False]


@given(st.lists(POINT, min_size=1, max_size=10))
def test_what_is_off_the_front_is_beaten_by_what_is_on_it(
    drawn: list[tuple[int, int | None]],
) -> None:
    on = pareto_front([gain for gain, _ in drawn], [price for _, price in drawn])
    best = [one for one, is_on in zip(drawn, on, strict=True) if is_on]
    for (gain, price), is_on in zip(drawn, on, strict=True):
        if price is not None and not is_on:
            assert any(g >= gain and p <= price for g, p in best if p is not None)


def test_all_alone_are_one_point() -> None:
    arms = [
        *single_task_arms("a", "b"),
        Arm("multi_task", "multi_task", ("a", "b")),
        Arm("ab", "pair", ("a", "b")),
    ]
    scores = {"single_task:a": {"a": [0.5]}, "single_task:b": {"b": [0.5]}}
    scores |= {"multi_task": {"a": [0.6], "b": [0.5]}}
    results = scored(arms, scores)
    found = pareto_points(results, compare(results, score_table(results), 0.95).comparisons)
    assert [(one.arm, one.seconds, one.parameters) for one in found] == [
        ("single_task", 20.0, 2020),
        ("multi_task", 20.0, 1020),
    ]
    assert [one.front["parameters"] for one in found] == [False, True]
    results.trials[0].parameters = None
    unknown = pareto_points(results, compare(results, score_table(results), 0.95).comparisons)[0]
    assert (unknown.parameters, unknown.front["parameters"]) == (None, False)

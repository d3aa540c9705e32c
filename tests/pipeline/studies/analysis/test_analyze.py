"""Answers however far a study has come."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.studies.analysis.analyze import analyze
from pipeline.studies.analysis.estimates import StudyAnalysis
from pipeline.studies.results import StudyResults
from tests.pipeline.studies.analysis.planted_studies import everything, simple


def planted() -> StudyResults:
    effect = {("multi_task", "a"): 0.08, ("multi_task", "b"): -0.08}
    return everything("abc", 3, np.random.default_rng(0), effect)


def numbers(value: object) -> Iterator[float]:
    """All numbers in an answer."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from numbers([getattr(value, one.name) for one in dataclasses.fields(value)])
    elif isinstance(value, dict):
        yield from numbers(list(value.values()))
    elif isinstance(value, list | tuple):
        for one in value:
            yield from numbers(one)
    elif isinstance(value, float):
        yield value


def test_whole_study() -> None:
    found = analyze(planted())
    assert found.notes == []
    assert set(found.scores) == set(planted().arms)
    multi_task = found.comparisons["multi_task"]
    assert [one.verdict for one in multi_task.changes.values()] == ["helped", "hurt", "unclear"]
    assert found.least.keys() == set("abc")
    assert 0.02 < (found.least["a"] or 0) < 0.08
    assert {one.arm for one in found.points} == {
        "single_task",
        "multi_task",
        "upgrad",
        "uncertainty",
    }
    assert found.groupings[-1].served["a"] == "multi_task"
    assert set(found.agreement) == {"size_rows"}
    assert all(math.isfinite(one) for one in numbers(found))


def test_same_results_same_answers() -> None:
    assert analyze(planted()) == analyze(planted())


def test_nothing_yet() -> None:
    results = planted()
    for one in results.trials:
        one.status = "waiting"
    found = analyze(results)
    assert (found.scores, found.comparisons, found.points) == ({}, {}, [])
    assert found.notes[0] == "no run has finished: nothing to compare yet"
    assert found.least == dict.fromkeys("abc")
    assert analyze(StudyResults("empty", {}, [], {}, [])).scores == {}


def test_one_seed() -> None:
    results = planted()
    results.trials = [one for one in results.trials if one.seed == 0]
    found = analyze(results)
    assert found.notes == ["only one seed has finished runs: no intervals and no tests yet"]
    assert all(one.low is None for own in found.scores.values() for one in own.values())
    assert {c.verdict for one in found.comparisons.values() for c in one.changes.values()} == {
        "unclear"
    }
    assert found.points and found.groupings


def test_failed_runs_are_left_out() -> None:
    results = planted()
    results.trials[0].status = "failed"
    results.trials[1].status = "timeout"
    found = analyze(results)
    assert found.comparisons["multi_task"].changes["a"].difference.seeds == 1


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_scores_that_are_not_numbers(bad: float) -> None:
    results = planted()
    next(one for one in results.trials if one.arm == "multi_task" and one.seed == 1).test["a"] = bad
    found = analyze(results)
    assert found.notes == ["multi_task: the score of a isn't finite for seed 1: left out"]
    assert found.comparisons["multi_task"].changes["a"].difference.seeds == 2


def test_a_task_that_lacks() -> None:
    results = planted()
    for one in results.trials:
        if one.arm == "multi_task":
            del one.test["c"]
    found = analyze(results)
    assert found.notes[0] == "multi_task has no score of c for seeds 0, 1, 2: left out"
    assert set(found.comparisons["multi_task"].changes) == {"a", "b"}
    assert "delta_m of multi_task is of a, b only" in found.notes
    assert "multi_task" not in {one.arm for one in found.points}


def test_level() -> None:
    wide, narrow = (analyze(simple([0.6, 0.65, 0.62], [0.5, 0.5, 0.55]), at) for at in (0.99, 0.8))
    one, other = (
        found.comparisons["multi_task"].changes["a"].difference for found in (wide, narrow)
    )
    assert one.low is not None and other.low is not None and one.low < other.low


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_never_fails(data: st.DataObject) -> None:
    """Runs fail, scores lack, are the same, 0, or no numbers."""
    results = everything("abc", data.draw(st.integers(1, 4)), np.random.default_rng(0))
    odd = st.sampled_from([0.0, 0.5, -0.5, 1.0, math.nan, math.inf, None, "keep", "keep"])
    statuses = st.sampled_from(["finished", "finished", "finished", "failed", "running"])
    for one in results.trials:
        one.status = data.draw(statuses)
        for task in list(one.test):
            value = data.draw(odd)
            if value is None:
                del one.test[task]
            elif value != "keep":
                one.test[task] = value
        one.parameters = data.draw(st.sampled_from([None, 10]))
    for arm in data.draw(st.lists(st.sampled_from(sorted(results.arms)), max_size=3, unique=True)):
        del results.arms[arm]
    found: StudyAnalysis = analyze(results)
    assert all(math.isfinite(one) for one in numbers(found))

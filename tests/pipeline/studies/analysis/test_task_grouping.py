"""What to train together."""

from __future__ import annotations

import pytest

from pipeline.studies.analysis.estimates import TaskGrouping
from pipeline.studies.analysis.score_table import score_table
from pipeline.studies.analysis.task_grouping import (
    CandidateModel,
    best_groupings,
    best_model,
    predicted,
)
from pipeline.studies.results import Arm, StudyResults
from tests.pipeline.studies.analysis.planted_studies import scored, single_task_arms, study, trial

PAIRS = [
    CandidateModel("ab", {"a": 0.1, "b": 0.2}),
    CandidateModel("ab again", {"a": 0.0, "b": 0.1}),
    CandidateModel("ac", {"a": 0.3, "c": -0.1}),
    CandidateModel("bc", {"b": 0.0, "c": 0.1}),
]


def grouped(results: StudyResults, notes: list[str] | None = None) -> list[TaskGrouping]:
    return best_groupings(results, score_table(results), 0, [] if notes is None else notes)


def test_groups_are_predicted_by_their_best_pairs() -> None:
    found = predicted(("a", "b", "c"), PAIRS)
    assert found is not None and found.predicted
    assert found.changes == pytest.approx({"a": 0.2, "b": 0.1, "c": 0.0})
    assert predicted(("a", "b", "d"), PAIRS) is None
    assert predicted(("a", "b"), PAIRS) is None


def test_a_model_may_serve_some_of_its_tasks() -> None:
    assert best_model(["a"], PAIRS, predict=False).model == PAIRS[2]
    assert best_model(["a", "b"], PAIRS, predict=False).model == PAIRS[0]
    assert best_model(["a", "b", "c"], PAIRS, predict=False).model is None
    assert best_model(["a", "b", "c"], PAIRS, predict=True).gain == pytest.approx(0.3)
    trained = [*PAIRS, CandidateModel("abc", {"a": 0.0, "b": 0.0, "c": 0.0})]
    assert best_model(["a", "b", "c"], trained, predict=True).model == trained[-1]


def three_tasks(multi_task: bool) -> StudyResults:
    """Alone 0.5 each. a and b help each other, c loses with either."""
    arms = [
        *single_task_arms("a", "b", "c"),
        Arm("ab", "pair", ("a", "b")),
        Arm("ac", "pair", ("a", "c")),
    ]
    arms += [Arm("bc", "pair", ("b", "c"))]
    scores = {f"single_task:{task}": {task: [0.5, 0.5]} for task in "abc"}
    scores |= {
        "ab": {"a": [0.6, 0.6], "b": [0.65, 0.65]},
        "ac": {"a": [0.7, 0.7], "c": [0.3, 0.3]},
        "bc": {"b": [0.4, 0.4], "c": [0.4, 0.4]},
    }
    if multi_task:
        arms.append(Arm("multi_task", "multi_task", ("a", "b", "c")))
        scores["multi_task"] = {"a": [0.55, 0.55], "b": [0.5, 0.5], "c": [0.45, 0.45]}
    return scored(arms, scores)


def test_best_groups_by_hand() -> None:
    one, two, three = grouped(three_tasks(multi_task=True))
    assert (one.groups, one.served) == ([("a", "b", "c")], dict.fromkeys("abc", "multi_task"))
    assert one.delta_m == pytest.approx(0.0)
    assert (one.seconds, one.parameters) == (30.0, 1030)
    assert two.served == {"a": "ab", "b": "ab", "c": "single_task:c"}
    assert two.delta_m == pytest.approx((0.2 + 0.3 + 0.0) / 3)
    assert (two.models, two.seconds, two.parameters) == (2, 30.0, 2030)
    assert three.served == {"a": "ac", "b": "ab", "c": "single_task:c"}  # ac serves a only
    assert three.groups == [("a", "c"), ("a", "b"), ("c",)]
    assert three.delta_m == pytest.approx((0.4 + 0.3 + 0.0) / 3)


def test_groups_that_were_not_trained_are_flagged() -> None:
    found = grouped(three_tasks(multi_task=False))
    assert found[0].predicted == [("a", "b", "c")]
    # a: (0.2 + 0.4) / 2, b: (0.3 - 0.2) / 2, c: (-0.4 - 0.2) / 2
    assert found[0].delta_m == pytest.approx((0.3 + 0.05 - 0.3) / 3)
    assert set(found[0].served.values()) == {"predicted:a+b+c"}
    assert (found[0].seconds, found[0].parameters) == (30.0, 1020)  # 10 s a task, a pair's size
    assert [one.predicted for one in found[1:]] == [[], []]


def test_groups_are_chosen_by_validation_and_shown_by_test() -> None:
    arms = [*single_task_arms("a", "b"), Arm("multi_task", "multi_task", ("a", "b"))]
    scores = {
        "single_task:a": {"a": 0.5},
        "single_task:b": {"b": 0.5},
        "multi_task": {"a": 0.4, "b": 0.6},
    }
    trials = [trial(arm, 0, own) for arm, own in scores.items()]
    trials[-1].valid = {"a": 0.6, "b": 0.6}
    (found,) = grouped(study(arms, trials))
    assert (found.models, found.delta_m) == (1, pytest.approx(0.0))
    trials[-1].valid = {}
    notes: list[str] = []
    assert grouped(study(arms, trials), notes)[1].delta_m == pytest.approx(0.1)
    assert notes == ["groups are chosen by test scores: some validation scores lack"]


def test_tasks_without_scores_are_left_out() -> None:
    results = three_tasks(multi_task=False)
    results.trials = [one for one in results.trials if one.arm != "single_task:c"]
    notes: list[str] = []
    found = grouped(results, notes)
    assert set(found[-1].served) == {"a", "b"}
    assert notes == ["groups leave out c: no score against their single-task runs yet"]


def test_many_tasks_are_searched() -> None:
    tasks = [f"t{at:02d}" for at in range(12)]
    arms = [
        *single_task_arms(*tasks),
        Arm("multi_task", "multi_task", tuple(tasks)),
        Arm("g", "group", tuple(tasks[:6])),
    ]
    scores = {f"single_task:{task}": {task: [0.5]} for task in tasks}
    scores["multi_task"] = {task: [0.45] for task in tasks}
    scores["g"] = {task: [0.6] for task in tasks[:6]}
    found = grouped(scored(arms, scores))
    assert (found[0].models, found[0].delta_m) == (1, pytest.approx(-0.1))
    assert (found[1].models, found[1].delta_m) == (2, pytest.approx((0.2 - 0.1) / 2))
    assert (found[-1].models, found[-1].delta_m) == (7, pytest.approx(0.1))

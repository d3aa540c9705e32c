"""What the sentences say, and that they never say more than was tested."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from pipeline.studies.analysis.analyze import analyze
from pipeline.studies.analysis.estimates import (
    ArmComparison,
    Change,
    IntervalEstimate,
    StudyAnalysis,
    TaskGrouping,
    Verdict,
)
from pipeline.studies.report.report_data import POINTS, estimate_text, rounded, size_text, unit_of
from pipeline.studies.report.verdict import delta_m_text, verdict
from pipeline.studies.results import Arm, StudyResults, TrialResult, TrialStatus
from pipeline.text_format import count, listed
from tests.pipeline.studies.example_study import results

METRICS = {"digit": "accuracy", "price": "r2"}
Told = dict[str, tuple[float, Verdict]]  # {task: change, its verdict}


def change(value: float, found: Verdict, half: float | None = 0.004) -> Change:
    seeds = 1 if half is None else 3
    known = IntervalEstimate(
        value, None if half is None else value - half, None if half is None else value + half, seeds
    )
    return Change(known, known, None if half is None else 0.01, 0.02 if half else None, found)


def study(
    told: Told, half: float | None = 0.004, statuses: tuple[TrialStatus, ...] = ()
) -> StudyResults:
    names = {
        f"single_task:{task}": Arm(f"single_task:{task}", "single_task", (task,)) for task in told
    }
    arms = {**names, "multi_task": Arm("multi_task", "multi_task", tuple(told))}
    metrics = {task: METRICS.get(task, "accuracy") for task in told}
    trials = [
        TrialResult(arm, seed, f"trials/{arm}/{seed}", ["python"], "finished")
        for arm in arms
        for seed in range(1 if half is None else 3)
    ]
    trials += [
        TrialResult("multi_task", 7, "trials/x", [], status, message="no rows")
        for status in statuses
    ]
    return StudyResults("shop", metrics, [0, 1, 2], arms, trials)


def lines(
    told: Told, half: float | None = 0.004, statuses: tuple[TrialStatus, ...] = ()
) -> list[str]:
    changes = {task: change(value, found, half) for task, (value, found) in told.items()}
    multi_task = ArmComparison("multi_task", changes, change(0.01, "unclear", half))
    found = StudyAnalysis({}, {"multi_task": multi_task}, least=dict.fromkeys(told, 0.02))
    return verdict(study(told, half, statuses), found)


@pytest.mark.parametrize(
    ("told", "first"),
    [
        (
            {"a": (0.02, "helped"), "b": (0.01, "helped"), "c": (-0.012, "hurt")},
            "Sharing helped 2 of 3 tasks; `c` loses 1.2 ± 0.4 points: train it single-task.",
        ),
        ({"a": (0.02, "helped"), "b": (0.01, "helped")}, "Sharing helped both tasks."),
        (dict.fromkeys("abc", (0.02, "helped")), "Sharing helped all 3 tasks."),
        (
            {"a": (-0.02, "hurt"), "price": (-0.03, "hurt")},
            "Sharing hurt both tasks: `a` loses 2.0 ± 0.4 points and `price` loses 0.030 ± 0.004: "
            "train them single-task.",
        ),
        (
            {"a": (-0.02, "hurt"), "b": (0.3, "unclear")},
            "Sharing helped none of 2 tasks; `a` loses 2.0 ± 0.4 points: train it single-task; "
            "`b`: no sure difference.",
        ),
        (
            dict.fromkeys("abc", (0.03, "unclear")),
            "No sure difference between multi-task and single-task training in any of 3 tasks.",
        ),
    ],
)
def test_the_first_sentence(told: Told, first: str) -> None:
    assert lines(told)[0] == first


def test_nothing_sure_says_what_could_have_been_shown() -> None:
    found = lines({"a": (0.001, "unclear"), "price": (0.001, "unclear")})
    assert (
        "3 seeds would have shown, four times out of five, a change of 2.0 points in `a` and 0.020 "
        "in `price`; a smaller one needs more seeds." in found
    )


def test_no_change_of_a_share_is_larger_than_all_of_it() -> None:
    own = study({"a": (0.001, "unclear"), "b": (0.001, "unclear")})
    multi_task = ArmComparison("multi_task", dict.fromkeys("ab", change(0.001, "unclear")), None)
    found = verdict(own, StudyAnalysis({}, {"multi_task": multi_task}, least={"a": 0.02, "b": 3.4}))
    assert found[-1].endswith("needs more seeds; 3 seeds can't show any change in `b`: run more.")
    assert "340" not in "".join(found)


def test_one_seed_has_no_intervals_and_says_so() -> None:
    told: Told = {"a": (0.02, "unclear"), "b": (-0.01, "unclear")}
    found = lines(told, half=None)
    assert found == [
        "One seed can't tell help from chance: with sharing, 1 of 2 scores is higher.",
        "The multi-task run against single-task runs: `a` +2.0 points and `b` \u22121.0 points; "
        "add seeds for intervals.",
    ]


@pytest.mark.parametrize("seeds", [(0, 1, 2), (0,)])
def test_what_may_be_chance_is_never_called_help(seeds: tuple[int, ...]) -> None:
    own = results(seeds=seeds)
    found = analyze(own)
    for comparison in found.comparisons.values():
        unclear = {t: replace(c, verdict="unclear") for t, c in comparison.changes.items()}
        mean = replace(comparison.delta_m, verdict="unclear")
        found.comparisons[comparison.arm] = ArmComparison(comparison.arm, unclear, mean)
    found.transfers = [
        replace(t, gain=replace(t.gain, verdict="unclear"), negative="unclear")
        for t in found.transfers
    ]
    text = " ".join(verdict(own, found))
    assert not re.search(r"\b(helped|helps?|hurts?|gains \d|loses|surely)\b (?!from chance)", text)


def test_an_interval_that_would_be_sure_by_itself() -> None:
    single = "\N{MINUS SIGN}3.0 ± 0.4 %, which may be chance among so many comparisons"
    assert delta_m_text(change(-0.03, "unclear")) == single
    assert delta_m_text(change(0.003, "unclear")) == "+0.3 ± 0.4 %, which may be chance"


def test_a_study_at_work_and_failures_are_named() -> None:
    told: Told = {"a": (0.02, "helped"), "b": (0.01, "helped")}
    found = lines(told, statuses=("waiting", "running", "failed", "timeout", "timeout"))
    assert found[0] == "So far, sharing helped both tasks."
    assert found[-3:] == [
        "The study isn't done: 1 run at work, 1 to come; all of this may change.",
        "1 run failed and is left out: `multi_task` with seed 7.",
        "2 runs took too long and are left out: `multi_task` with seed 7 and `multi_task` with "
        "seed 7.",
    ]


def test_without_results() -> None:
    empty = study({"a": (0, "unclear")})
    empty.trials = [replace(trial, status="waiting") for trial in empty.trials]
    assert verdict(empty, StudyAnalysis({}, {}))[0] == (
        "No answer yet: none of 6 runs has finished."
    )
    apart = study({"a": (0, "unclear")})
    assert verdict(apart, StudyAnalysis({}, {}))[0].startswith("Nothing to compare: no task has a")


def test_the_fake_study() -> None:
    own = results()
    text = "\n".join(verdict(own, analyze(own)))
    for part in (
        "Sharing helped 3 of 4 tasks; `subject` loses",
        "Of 2 variants `upgrad` has the highest mean",
        "that difference itself isn't tested",
        "Best grouping: 3 models (`upgrad` for `digit` and `sentiment`; `pair:digit+optdigit` for",
        "Strong negative transfer, at every weight tried: `digit` to `subject`.",
        "`digit` reaches with 3,048 labels in `multi_task` what its single-task run reaches with "
        "3,500",
        "`gradient_cosine` ranks them best",
        "1 run failed and is left out: `uncertainty` with seed 2.",
    ):
        assert part in text
    found = analyze(own)
    groups = [("digit", "optdigit"), ("sentiment",), ("subject",)]
    found.groupings = [TaskGrouping(3, groups, {}, 0.02, 60.0, None, [groups[0]])]
    assert "guessed from pairs, not trained: `digit` and `optdigit`" in "\n".join(
        verdict(own, found)
    )


def test_tasks_that_are_best_apart() -> None:
    own = results()
    found = analyze(own)
    served = {task: f"single_task:{task}" for task in own.metrics}
    found.groupings = [TaskGrouping(4, [(task,) for task in served], served, 0.0, 300.0, 2_100_000)]
    text = "\n".join(verdict(own, found))
    assert (
        "No grouping found that beats single-task training on average (5 min of training and"
        in text
    )


def test_a_task_that_gains_elsewhere_is_not_sent_apart() -> None:
    own = results()
    found = analyze(own)
    pair = found.comparisons["pair:sentiment+subject"]
    pair.changes["subject"] = change(0.02, "helped")
    assert verdict(own, found)[0].endswith(
        "points, but `subject` gains in `pair:sentiment+subject`."
    )


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [(1.25, 1, "+1.2"), (-0.04, 1, "\u22120.04"), (0.0, 1, "0.0"), (-1e-9, 1, "0.000"),
     (1234.5, 0, "+1,234"), (float("nan"), 1, "-")],
)  # fmt: skip
def test_numbers(value: float, digits: int, text: str) -> None:
    assert rounded(value, digits, sign=True) == text


def test_units() -> None:
    assert [unit_of(name).word for name in ("accuracy", "recall_5", "r2", "kappa", "recall_x")] == [
        " points", " points", "", "", "",
    ]  # fmt: skip
    assert (
        estimate_text(IntervalEstimate(0.01, 0.002, 0.011, 3), POINTS) == "1.0 (0.2 to 1.1) points"
    )
    assert size_text(IntervalEstimate(-0.01, -0.02, 0.003, 3)) == IntervalEstimate(
        0.01, -0.003, 0.02, 3
    )
    assert listed(list("abcd"), 3) == "a, b and 2 more"
    assert [count(1, "loss"), count(2, "loss"), count(1000, "run")] == [
        "1 loss", "2 losses", "1,000 runs",
    ]  # fmt: skip

"""What could have been told before."""

from __future__ import annotations

from itertools import permutations

import pytest

from pipeline.studying.analysis.predictors import agreements, measured
from pipeline.studying.answers import Change, Estimate, Transfer
from pipeline.studying.results import Arm, Results
from tests.pipeline.studying.analysis.planted import alone, study, trial

GAINS = {"a": {"b": 0.3, "c": 0.2, "d": 0.1}, "b": {"a": 0.1, "c": 0.3, "d": 0.2}}


def transfer(source: str, target: str, gain: float, arm: str) -> Transfer:
    mean = Estimate(gain, None, None, 1)
    return Transfer(source, target, arm, Change(mean, None, None, None, "unclear"), "unclear")


def measured_study(**options: object) -> tuple[Results, list[Transfer]]:
    arms = [*alone("a", "b", "c", "d")]
    arms += [Arm(f"{s}>{t}", "transfer", (t,), source=s) for s, t in permutations("abcd", 2)]
    trials = [
        trial(f"alone:{task}", 0, {task: 0.5}, labels={task: size})
        for task, size in zip("abcd", (40, 30, 20, 10), strict=True)
    ]
    gains = [
        transfer(s, t, gain, f"{s}>{t}") for t, own in GAINS.items() for s, gain in own.items()
    ]
    return study(arms, trials, **options), gains


def test_tau_within_each_target_beside_the_size() -> None:
    results, gains = measured_study(predictors={"tag": GAINS})
    found = agreements(results, gains, 0)
    assert found["tag"].tau == pytest.approx(1.0)
    # a: gains in the order of sizes, 3 pairs agree; b: sizes a > c > d, gains c > d > a: 1 of 3
    assert found["size_rows"].tau == pytest.approx((3 - 1) / 6)


def test_the_mean_of_several_weights() -> None:
    results, _ = measured_study()
    gains = [transfer("b", "a", 0.1, "b>a"), transfer("b", "a", 0.3, "b>a")]
    assert measured(results, gains) == {"a": {"b": pytest.approx(0.2)}}


def test_too_few_sources_say_why() -> None:
    results, gains = measured_study(predictors={"tag": {"a": {"b": 1.0, "c": float("nan")}}})
    found = agreements(results, gains, 0)["tag"]
    assert found.tau is None
    assert found.reason == "1 sources have a score and a gain, >= 3 are needed"


def test_nothing_measured() -> None:
    assert agreements(measured_study(predictors={"tag": GAINS})[0], [], 0) == {}

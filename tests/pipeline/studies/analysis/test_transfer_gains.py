"""Gains of sources, negative transfer, and what predicts them."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from pipeline.studies.analysis.comparisons import compare
from pipeline.studies.analysis.estimates import Change, IntervalEstimate, TransferGain
from pipeline.studies.analysis.score_table import score_table
from pipeline.studies.analysis.transfer_gains import (
    measured_gains,
    predictor_agreements,
    transfer_gains,
)
from pipeline.studies.results import Arm, StudyResults
from tests.pipeline.studies.analysis.planted_studies import scored, single_task_arms, study, trial

SEEDS = np.array([-0.001, 0.0, 0.001])


def found(**a_scores: float) -> dict[tuple[str, str, str], TransferGain]:
    """Pairs of b and a; a_scores: {arm: a's score}, alone 0.8; b is the same everywhere."""
    arms, scores = (
        single_task_arms("a", "b"),
        {"single_task:a": {"a": 0.8 + SEEDS}, "single_task:b": {"b": 0.8 + SEEDS}},
    )
    for weight, (name, score) in enumerate(a_scores.items(), start=1):
        if name.startswith("transfer"):
            arms.append(Arm(name, "transfer", ("a",), source="b"))
            scores[name] = {"a": score + SEEDS[::-1]}
        else:
            weights = (("a", 1.0), ("b", float(weight)))
            arms.append(Arm(name, "pair", ("a", "b"), weights=weights))
            scores[name] = {"a": score + SEEDS[::-1], "b": 0.8 + SEEDS[[1, 2, 0]]}
    results = scored(arms, scores)  # type: ignore[arg-type]
    gains = transfer_gains(results, compare(results, score_table(results), 0.95).comparisons)
    return {(one.source, one.target, one.arm): one for one in gains}


def test_both_ways_of_a_pair() -> None:
    gains = found(pair=0.9)
    assert set(gains) == {("b", "a", "pair"), ("a", "b", "pair")}
    helped, unclear = gains["b", "a", "pair"], gains["a", "b", "pair"]
    assert (helped.negative, helped.gain.verdict) == ("none", "helped")
    assert helped.gain.difference.mean == pytest.approx(0.1)
    assert (unclear.negative, unclear.gain.difference.mean) == ("unclear", pytest.approx(0.0))


def test_one_weight_that_hurts_is_weak() -> None:
    assert found(pair=0.7)["b", "a", "pair"].negative == "weak"


def test_all_weights_that_hurt_are_strong() -> None:
    gains = found(low=0.75, high=0.7)
    assert {gains["b", "a", arm].negative for arm in ("low", "high")} == {"strong"}


def test_a_weight_that_does_not_hurt_keeps_it_weak() -> None:
    gains = found(low=0.8, high=0.7)
    assert gains["b", "a", "high"].negative == "weak"
    assert gains["b", "a", "low"].negative == "unclear"


def test_transfers_go_one_way() -> None:
    gains = found(transfer=0.7)
    assert set(gains) == {("b", "a", "transfer")}
    assert gains["b", "a", "transfer"].negative == "weak"


GAINS = {"a": {"b": 0.3, "c": 0.2, "d": 0.1}, "b": {"a": 0.1, "c": 0.3, "d": 0.2}}


def transfer(source: str, target: str, gain: float, arm: str) -> TransferGain:
    mean = IntervalEstimate(gain, None, None, 1)
    return TransferGain(source, target, arm, Change(mean, None, None, None, "unclear"), "unclear")


def measured_study(**options: object) -> tuple[StudyResults, list[TransferGain]]:
    arms = [*single_task_arms("a", "b", "c", "d")]
    arms += [Arm(f"{s}>{t}", "transfer", (t,), source=s) for s, t in permutations("abcd", 2)]
    trials = [
        trial(f"single_task:{task}", 0, {task: 0.5}, labels={task: size})
        for task, size in zip("abcd", (40, 30, 20, 10), strict=True)
    ]
    gains = [
        transfer(s, t, gain, f"{s}>{t}") for t, own in GAINS.items() for s, gain in own.items()
    ]
    return study(arms, trials, **options), gains


def test_tau_within_each_target_beside_the_size() -> None:
    results, gains = measured_study(predictors={"tag": GAINS})
    found = predictor_agreements(results, gains, 0)
    assert found["tag"].tau == pytest.approx(1.0)
    # a: gains in the order of sizes, 3 pairs agree; b: sizes a > c > d, gains c > d > a: 1 of 3
    assert found["size_rows"].tau == pytest.approx((3 - 1) / 6)


def test_the_mean_of_several_weights() -> None:
    results, _ = measured_study()
    gains = [transfer("b", "a", 0.1, "b>a"), transfer("b", "a", 0.3, "b>a")]
    assert measured_gains(results, gains) == {"a": {"b": pytest.approx(0.2)}}


def test_too_few_sources_say_why() -> None:
    results, gains = measured_study(predictors={"tag": {"a": {"b": 1.0, "c": float("nan")}}})
    found = predictor_agreements(results, gains, 0)["tag"]
    assert found.tau is None
    assert found.reason == "1 sources have a score and a gain, >= 3 are needed"


def test_nothing_measured() -> None:
    assert predictor_agreements(measured_study(predictors={"tag": GAINS})[0], [], 0) == {}

"""Gains of sources, and negative transfer."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.studying.analysis.comparisons import compare
from pipeline.studying.analysis.table import table
from pipeline.studying.analysis.transfers import transfers
from pipeline.studying.answers import Transfer
from pipeline.studying.results import Arm
from tests.pipeline.studying.analysis.planted import alone, scored

SEEDS = np.array([-0.001, 0.0, 0.001])


def found(**a_scores: float) -> dict[tuple[str, str, str], Transfer]:
    """Pairs of b and a; a_scores: {arm: a's score}, alone 0.8; b is the same everywhere."""
    arms, scores = alone("a", "b"), {"alone:a": {"a": 0.8 + SEEDS}, "alone:b": {"b": 0.8 + SEEDS}}
    for weight, (name, score) in enumerate(a_scores.items(), start=1):
        if name.startswith("transfer"):
            arms.append(Arm(name, "transfer", ("a",), source="b"))
            scores[name] = {"a": score + SEEDS[::-1]}
        else:
            weights = (("a", 1.0), ("b", float(weight)))
            arms.append(Arm(name, "pair", ("a", "b"), weights=weights))
            scores[name] = {"a": score + SEEDS[::-1], "b": 0.8 + SEEDS[[1, 2, 0]]}
    results = scored(arms, scores)  # type: ignore[arg-type]
    gains = transfers(results, compare(results, table(results), 0.95).comparisons)
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

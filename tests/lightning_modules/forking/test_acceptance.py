"""When a merge is accepted."""

from __future__ import annotations

import math

from lightning_modules.forking.acceptance import Acceptance


def judge(**tolerance: float) -> Acceptance:
    return Acceptance(["a"], tolerance, {"a": 0.8, "b": 0.5})


def test_the_mean_of_the_targets_counts() -> None:
    both = Acceptance(["a", "b"], {})
    assert both.gain({"a": 0.5, "b": 1.0, "c": 0.0}) == 0.75
    assert both.gain({"a": 0.5}) == both.gain({"a": 0.5, "b": math.nan}) == -math.inf


def test_a_fall_within_tolerance_is_none() -> None:
    assert judge(a=0.0, b=0.125).fallen({"a": 0.8, "b": 0.375}) == {}


def test_a_fall_beyond_tolerance_is_refused() -> None:
    strict = judge(a=0.0, b=0.0625)
    assert strict.fallen({"a": 0.9, "b": 0.375}) == {"b": 0.125}
    assert strict.value({"a": 0.9, "b": 0.375}) == -math.inf


def test_a_task_without_tolerance_may_fall() -> None:
    assert judge(a=0.0).value({"a": 0.9, "b": 0.0}) == 0.9


def test_a_score_that_is_no_number_is_a_fall() -> None:
    assert judge(b=0.1).fallen({"a": 1.0, "b": math.nan}) == {"b": math.inf}
    assert judge(b=0.1).fallen({"a": 1.0}) == {"b": math.inf}


def test_small_falls_don_t_add_up() -> None:
    rule = judge(a=0.25, b=1.0)
    rule.accept({"a": 0.6, "b": 0.7})
    assert rule.baseline == {"a": 0.8, "b": 0.7}
    assert rule.fallen({"a": 0.5, "b": 0.7})


def test_what_has_no_score_leaves_its_baseline() -> None:
    rule = judge()
    rule.accept({"a": math.nan})
    assert rule.baseline == {"a": 0.8, "b": 0.5}

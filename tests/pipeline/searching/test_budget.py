"""Time: what trials take, where they are compared, and how many fit."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from pipeline.searching.budget import (
    Costs,
    best_third,
    divided,
    fitting,
    learnt_ratio,
    makespan,
    most_trials,
    promoted,
    rungs,
    wall_seconds,
)
from pipeline.searching.clock import FILE, Clock


def test_costs_are_of_rows_and_epochs() -> None:
    costs = Costs(start=8.0, unit=3.0, ratio=2.0)
    assert costs.seconds(1.0, 4) == 8 + 2 * 3 * 4
    assert costs.seconds(0.25, 4) == 8 + 2 * 3 * 1


def test_ratio_is_of_all_that_has_ended() -> None:
    assert learnt_ratio([], []) == 1.0
    assert learnt_ratio([10.0, 30.0], [20.0, 40.0]) == 1.5


@pytest.mark.parametrize(
    ("epochs", "seconds", "wanted"),
    [
        (60, 50.0, [60]),  # a third of it isn't worth a process
        (60, 100.0, [20, 60]),
        (60, 300.0, [7, 20, 60]),
        (2, 3000.0, [2]),  # epochs can't be divided
        (4, 3000.0, [1, 4]),
    ],
)
def test_rungs(epochs: int, seconds: float, wanted: list[int]) -> None:
    assert rungs(epochs, seconds) == wanted


def test_rungs_that_are_asked_for_depend_on_epochs_alone() -> None:
    assert [divided(60, count) for count in (1, 2, 3)] == [[60], [20, 60], [7, 20, 60]]
    assert divided(2, 3) == [2]


def test_time_of_all_rungs() -> None:
    # nine, then three, then one, two at a time
    assert wall_seconds(9, [10.0, 20.0, 60.0], 2) == 5 * 10 + 2 * 20 + 1 * 60
    assert [promoted(n) for n in (1, 2, 3, 4, 9)] == [1, 1, 1, 2, 3]


def test_as_many_as_end_in_time() -> None:
    each = [10.0, 20.0, 60.0]
    assert most_trials(9, each, 2, 1000.0) == 9
    assert most_trials(9, each, 2, 149.0) == 8
    assert most_trials(9, each, 2, 90.0) == 2
    assert most_trials(9, each, 2, 89.0) == 0


def test_the_best_go_on_in_their_order() -> None:
    qualities = {"a": 0.1, "b": None, "c": 0.5, "d": 0.4}
    assert best_third(qualities, 2) == ["c", "d"]
    assert best_third({"a": None}, 1) == []


def test_runs_that_end_in_time() -> None:
    assert makespan([30.0, 20.0, 10.0], 2) == 30.0
    seconds = {"a": 30.0, "b": 50.0, "c": 20.0}
    assert fitting(seconds, 2, 60.0) == ["a", "b", "c"]
    assert fitting(seconds, 2, 49.0) == ["a", "c"]
    assert fitting(seconds, 2, 10.0) == []


@pytest.mark.parametrize("text", ["{}", '{"sec', '{"seconds": 1e400}', '{"seconds": -5}', "[1]"])
def test_a_damaged_clock_begins_anew(text: str, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(text)
    clock = Clock(tmp_path, time.perf_counter() - 2)
    assert 2 <= clock.seconds() < 60
    clock.note()
    assert 2 <= Clock(tmp_path, time.perf_counter()).seconds() < 60

"""Which tasks a search learns together."""

from __future__ import annotations

import json
from pathlib import Path

from pipeline.searching.groups import (
    Pair,
    best_partition,
    gradient_cosines,
    linked,
    partitions,
    task_groups,
)


def pairs(**cosines: float) -> dict[Pair, float]:
    return {frozenset(name): value for name, value in cosines.items()}


def test_there_are_as_many_partitions_as_bell_says() -> None:
    assert [len(list(partitions(tuple("abcde"[:n])))) for n in range(1, 6)] == [1, 2, 5, 15, 52]


def test_tasks_whose_gradients_agree_are_together() -> None:
    cosines = pairs(ab=0.5, ac=-0.2, ad=-0.3, bc=-0.1, bd=-0.2, cd=0.4)
    assert sorted(map(sorted, best_partition("abcd", cosines))) == [["a", "b"], ["c", "d"]]
    assert sorted(map(sorted, linked("abcd", cosines))) == [["a", "b"], ["c", "d"]]
    assert best_partition("ab", {}) == [("a", "b")]


def test_groups_are_all_those_that_agree_and_those_better_alone() -> None:
    cosines = pairs(ab=0.5, ac=-0.2, bc=-0.1)
    assert task_groups("abc", cosines, ()) == {"all": ["a", "b", "c"], "a+b": ["a", "b"]}
    found = task_groups("abc", {}, ("c",))
    assert found == {"all": ["a", "b", "c"], "a+b": ["a", "b"], "c": ["c"]}
    assert task_groups("a", {}, ("a",)) == {"all": ["a"]}


def test_cosines_are_read_from_a_runs_history(tmp_path: Path) -> None:
    lines = [
        {
            "step": step,
            "time_ms": 0,
            "metrics": {"gradient/cosine/a/b": value, "gradient/norm/a": 1},
        }
        for step, value in ((50, 0.5), (100, -0.1))
    ]
    file = tmp_path / "metrics.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert gradient_cosines(file, ["a", "b", "c"]) == {frozenset("ab"): 0.2}
    assert gradient_cosines(tmp_path / "none.jsonl", ["a", "b"]) == {}

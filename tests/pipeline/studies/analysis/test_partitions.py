"""Partitions of tasks: all of them, and a search."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from pipeline.studies.analysis.partitions import (
    Partition,
    Value,
    best_partitions,
    local_search_partitions,
)


def all_partitions(tasks: list[str]) -> Iterator[list[list[str]]]:
    """Every partition, by hand: the first task joins a set of the rest's partition, or its own."""
    if not tasks:
        yield []
        return
    first, rest = tasks[0], tasks[1:]
    for partition in all_partitions(rest):
        yield [[first], *partition]
        for at, own in enumerate(partition):
            yield [*partition[:at], [first, *own], *partition[at + 1 :]]


def random_value(tasks: list[str], seed: int, missing: float) -> Value:
    rng = np.random.default_rng(seed)
    known: dict[frozenset[str], float] = {}

    def value(served: tuple[str, ...]) -> float:
        key = frozenset(served)
        if key not in known:
            absent = len(key) > 1 and rng.random() < missing
            known[key] = -np.inf if absent else float(rng.normal())
        return known[key]

    for size in range(2 ** len(tasks)):  # drawn in one order whoever asks
        value(tuple(task for at, task in enumerate(tasks) if size >> at & 1))
    return value


def total(partition: Partition | None, value: Value) -> float:
    return -np.inf if partition is None else sum(map(value, partition))


@pytest.mark.parametrize("seed", range(6))
def test_exhaustive_is_the_best_of_all(seed: int) -> None:
    tasks = list("abcdef")
    value = random_value(tasks, seed, missing=0.3)
    found = best_partitions(tasks, value)
    best = dict.fromkeys(range(1, 7), -np.inf)
    for partition in all_partitions(tasks):
        best[len(partition)] = max(
            best[len(partition)], sum(value(tuple(own)) for own in partition)
        )
    assert [total(one, value) for one in found] == pytest.approx(list(best.values()))
    for k, partition in enumerate(found, start=1):
        if partition is not None:
            assert len(partition) == k
            assert sorted(task for own in partition for task in own) == tasks


@pytest.mark.parametrize("missing", [0.0, 0.4])
@pytest.mark.parametrize("seed", range(6))
def test_search_equals_exhaustive_on_few_tasks(seed: int, missing: float) -> None:
    tasks = list("abcdefg")
    value = random_value(tasks, seed, missing)
    found = local_search_partitions(tasks, value, seed=0)
    expected = best_partitions(tasks, value)
    assert [total(one, value) for one in found] == pytest.approx(
        [total(e, value) for e in expected]
    )


def test_search_finds_planted_groups_of_many_tasks() -> None:
    tasks = [f"t{at:02d}" for at in range(12)]
    likes = np.where(np.arange(12)[:, None] % 3 == np.arange(12) % 3, 0.1, -0.1)

    def value(served: tuple[str, ...]) -> float:
        at = [tasks.index(task) for task in served]
        return float(likes[np.ix_(at, at)].sum())

    found = local_search_partitions(tasks, value, seed=0)[2]
    assert found is not None
    assert sorted(found) == [tuple(tasks[at::3]) for at in range(3)]
    assert local_search_partitions(tasks, value, seed=0)[2] == found


def test_nothing_can_serve_a_task() -> None:
    assert best_partitions(["a"], lambda served: -np.inf) == [None]
    assert best_partitions([], lambda served: 0.0) == []

"""Which tasks may be learnt together: all, those whose gradients agree, and each alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from statistics import fmean

from pipeline.tracking.journals import read_points

ALL = "all"
COSINE = "gradient/cosine/"
MOST_TASKS = 8  # up to which all partitions are looked at: 4,140 of them

Pair = frozenset[str]


def gradient_cosines(history: Path, tasks: Sequence[str]) -> dict[Pair, float]:
    """Return {pair of tasks: mean cosine of their gradients} that a run of all tasks has logged."""
    names = {f"{COSINE}{a}/{b}": frozenset((a, b)) for a in tasks for b in tasks if a != b}
    found: dict[Pair, list[float]] = {}
    for point in read_points(history):
        if point.key in names:
            found.setdefault(names[point.key], []).append(point.value)
    return {pair: fmean(values) for pair, values in found.items()}


def task_groups(
    tasks: Sequence[str], cosines: Mapping[Pair, float], better_alone: Sequence[str]
) -> dict[str, list[str]]:
    """Return {name: tasks} of the groups that a search tries.

    Args:
        tasks: all of them.
        cosines: {pair: mean cosine of their gradients}; empty where they weren't compared.
        better_alone: tasks whose own run scored higher than the run of all.
    """
    found = {ALL: list(tasks)}
    if len(tasks) == 1:
        return found
    for group in best_partition(tasks, cosines):
        if 1 < len(group) < len(tasks):
            found["+".join(group)] = list(group)
    rest = [task for task in tasks if task not in better_alone]
    if 1 < len(rest) < len(tasks):
        found.setdefault("+".join(rest), rest)
    return found | {task: [task] for task in tasks if task in better_alone}


def best_partition(
    tasks: Sequence[str], cosines: Mapping[Pair, float]
) -> Sequence[tuple[str, ...]]:
    """Return the partition with the largest sum of cosines within its groups.

    Of more than ``MOST_TASKS`` tasks it is that of pairs that agree, and of what they lead to.
    """
    if not cosines:
        return [tuple(tasks)]
    if len(tasks) > MOST_TASKS:
        return linked(tasks, cosines)
    return max(partitions(tuple(tasks)), key=lambda groups: within(groups, cosines))


def within(groups: Sequence[Sequence[str]], cosines: Mapping[Pair, float]) -> float:
    return sum(cosines.get(frozenset(pair), 0.0) for own in groups for pair in combinations(own, 2))


def partitions(tasks: tuple[str, ...]) -> Iterator[list[tuple[str, ...]]]:
    """Yield all partitions of some tasks."""
    if not tasks:
        yield []
        return
    first, rest = tasks[0], tasks[1:]
    for size in range(len(rest) + 1):
        for others in combinations(rest, size):
            left = tuple(task for task in rest if task not in others)
            for found in partitions(left):
                yield [(first, *others), *found]


def linked(tasks: Sequence[str], cosines: Mapping[Pair, float]) -> list[tuple[str, ...]]:
    """Return the groups that pairs with a positive cosine connect."""
    group = {task: task for task in tasks}
    for pair, cosine in cosines.items():
        one, other = sorted(pair, key=tasks.index)
        if cosine > 0 and group[one] != group[other]:
            gone, kept = group[other], group[one]
            group = {task: kept if own == gone else own for task, own in group.items()}
    return [tuple(t for t in tasks if group[t] == name) for name in dict.fromkeys(group.values())]

"""A good division of many tasks into k sets, by moves from several starts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache

import numpy as np

from pipeline.studying.analysis.divisions import Division, Value

STARTS = 10  # random divisions, besides what k + 1 sets lead to

Assignment = tuple[int, ...]  # the set of each task
Total = Callable[[Assignment], tuple[int, float]]


def searched_divisions(tasks: Sequence[str], value: Value, seed: int) -> list[Division | None]:
    """Return a division into k sets for k = 1 ... T, best of its neighbours; None: none found.

    Neighbours move one task, exchange two, or divide the tasks of two sets anew by one task each.
    Each start is climbed to its top: the division of k + 1 sets with two of them joined, the
    division of k - 1 sets with one divided, and random ones.

    Args:
        tasks: T names.
        value: of tasks served by one model, -inf where none can; a division's is the sum.
        seed: of the random starts.
    """
    rng = np.random.default_rng(seed)

    @cache
    def of(members: int) -> float:
        return value(tuple(task for at, task in enumerate(tasks) if members >> at & 1))

    def total(sets: Assignment) -> tuple[int, float]:
        """Sets that can't be are counted first, so that they are climbed out of."""
        own = [of(members) for members in _members(sets)]
        bad = sum(one == -np.inf for one in own)
        return -bad, sum(one for one in own if one > -np.inf)

    n = len(tasks)
    tops: dict[int, Assignment] = {n: tuple(range(n))}
    for k in range(n - 1, 0, -1):
        starts = [_joined(tops[k + 1], a, b) for a in range(k + 1) for b in range(a)]
        starts = sorted(starts, key=total, reverse=True)[:3]
        starts += [_random(n, k, rng) for _ in range(STARTS)]
        tops[k] = max((_climbed(start, k, total) for start in starts), key=total)
    for k in range(2, n):
        starts = [_divided(tops[k - 1], at, k - 1) for at in range(n)]
        better = [_climbed(start, k, total) for start in starts if len(set(start)) == k]
        tops[k] = max([tops[k], *better], key=total)
    return [_division(tasks, tops[k]) if total(tops[k])[0] == 0 else None for k in range(1, n + 1)]


def _climbed(sets: Assignment, k: int, total: Total) -> Assignment:
    here = total(sets)
    while True:
        near = max(_neighbours(sets, k), key=total, default=sets)
        if total(near) <= here:
            return sets
        sets, here = near, total(near)


def _neighbours(sets: Assignment, k: int) -> Iterator[Assignment]:
    counts = np.bincount(sets, minlength=k)
    for at, own in enumerate(sets):
        if counts[own] > 1:
            yield from ((*sets[:at], to, *sets[at + 1 :]) for to in range(k) if to != own)
        for other in range(at):
            if sets[other] != own:
                changed = list(sets)
                changed[at], changed[other] = sets[other], own
                yield tuple(changed)


def _joined(sets: Assignment, a: int, b: int) -> Assignment:
    """Return the sets a > b as one, the others numbered anew."""
    return tuple(b if one == a else one - (one > a) for one in sets)


def _divided(sets: Assignment, at: int, new: int) -> Assignment:
    return (*sets[:at], new, *sets[at + 1 :])


def _random(n: int, k: int, rng: np.random.Generator) -> Assignment:
    """Return n tasks in k sets, none of them empty."""
    drawn = rng.permutation(np.concatenate([np.arange(k), rng.integers(0, k, n - k)]))
    return tuple(int(one) for one in drawn)


def _members(sets: Assignment) -> list[int]:
    """Return the tasks of each set, as bits."""
    found = [0] * (max(sets) + 1)
    for at, own in enumerate(sets):
        found[own] |= 1 << at
    return found


def _division(tasks: Sequence[str], sets: Assignment) -> Division:
    members = _members(sets)
    return [tuple(t for at, t in enumerate(tasks) if own >> at & 1) for own in members]

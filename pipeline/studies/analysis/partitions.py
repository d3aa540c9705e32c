"""The best partition of tasks into k sets: by dynamic programming, or by local search."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache

import numpy as np

Partition = list[tuple[str, ...]]
Value = Callable[[tuple[str, ...]], float]  # of a set of tasks; -inf: can't be


def best_partitions(tasks: Sequence[str], value: Value) -> list[Partition | None]:
    """Return the best partition into exactly k sets for k = 1 ... T; None where there is none.

    B_k(M) = max over S in M with M's first task of v(S) + B_{k-1}(M \\ S), for all subsets M: the
    maximum over all partitions, in O(k 3^T) steps.

    Args:
        tasks: T names.
        value: of tasks served by one model; a partition's is the sum.
    """
    size = 1 << len(tasks)
    values = [0.0] + [value(_named(tasks, mask)) for mask in range(1, size)]
    total = [-np.inf] * size
    total[0] = 0.0
    taken: list[list[int]] = []
    found: list[Partition | None] = []
    for _ in tasks:
        total, choice = _one_more(values, total)
        taken.append(choice)
        found.append(_traced(tasks, taken) if total[-1] > -np.inf else None)
    return found


def _one_more(values: list[float], total: list[float]) -> tuple[list[float], list[int]]:
    """Return B_k and the set with each subset's first task, from B_{k-1}."""
    new, choice = [-np.inf] * len(values), [0] * len(values)
    for mask in range(1, len(values)):
        first = mask & -mask
        rest = mask ^ first
        other = rest
        while True:  # over all subsets of the rest
            own = first | other
            found = values[own] + total[mask ^ own]
            if found > new[mask]:
                new[mask], choice[mask] = found, own
            if not other:
                break
            other = (other - 1) & rest
    return new, choice


def _traced(tasks: Sequence[str], taken: list[list[int]]) -> Partition:
    mask, found = (1 << len(tasks)) - 1, []
    for choice in reversed(taken):
        found.append(_named(tasks, choice[mask]))
        mask ^= choice[mask]
    return found


def _named(tasks: Sequence[str], mask: int) -> tuple[str, ...]:
    return tuple(task for at, task in enumerate(tasks) if mask >> at & 1)


STARTS = 10  # random partitions, besides what k + 1 sets lead to

Assignment = tuple[int, ...]  # the set of each task
Total = Callable[[Assignment], tuple[int, float]]


def local_search_partitions(
    tasks: Sequence[str], value: Value, seed: int
) -> list[Partition | None]:
    """Return a partition into k sets for k = 1 ... T, best of its neighbours; None: none found.

    Neighbours move one task, exchange two, or divide the tasks of two sets anew by one task each.
    Each start is climbed to its top: the partition of k + 1 sets with two of them joined, the
    partition of k - 1 sets with one divided, and random ones.

    Args:
        tasks: T names.
        value: of tasks served by one model, -inf where none can; a partition's is the sum.
        seed: of the random starts.
    """
    rng = np.random.default_rng(seed)

    @cache
    def of(members: int) -> float:
        return value(_named(tasks, members))

    def total(sets: Assignment) -> tuple[int, float]:
        """Sets that can't be are counted first, so that they are climbed out of."""
        own = [of(members) for members in _members(sets)]
        bad = sum(one == -np.inf for one in own)
        return -bad, sum(one for one in own if one > -np.inf)

    n = len(tasks)
    tops: dict[int, Assignment] = {n: tuple(range(n))}
    for k in range(n - 1, 0, -1):
        starts = [_merged_sets(tops[k + 1], a, b) for a in range(k + 1) for b in range(a)]
        starts = sorted(starts, key=total, reverse=True)[:3]
        starts += [_random(n, k, rng) for _ in range(STARTS)]
        tops[k] = max((_climbed(start, k, total) for start in starts), key=total)
    for k in range(2, n):
        starts = [(*tops[k - 1][:at], k - 1, *tops[k - 1][at + 1 :]) for at in range(n)]
        better = [_climbed(start, k, total) for start in starts if len(set(start)) == k]
        tops[k] = max([tops[k], *better], key=total)
    return [_partition(tasks, tops[k]) if total(tops[k])[0] == 0 else None for k in range(1, n + 1)]


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


def _merged_sets(sets: Assignment, a: int, b: int) -> Assignment:
    """Return the sets a > b as one, the others numbered anew."""
    return tuple(b if one == a else one - (one > a) for one in sets)


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


def _partition(tasks: Sequence[str], sets: Assignment) -> Partition:
    return [_named(tasks, own) for own in _members(sets)]

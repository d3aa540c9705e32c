"""The best division of tasks into at most k sets, all divisions considered."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

Division = list[tuple[str, ...]]
Value = Callable[[tuple[str, ...]], float]  # of a set of tasks; -inf: can't be


def best_divisions(tasks: Sequence[str], value: Value) -> list[Division | None]:
    """Return the best division into exactly k sets for k = 1 ... T; None where there is none.

    B_k(M) = max over S in M with M's first task of v(S) + B_{k-1}(M \\ S), for all subsets M: the
    maximum over all divisions, in O(k 3^T) steps.

    Args:
        tasks: T names.
        value: of tasks served by one model; a division's is the sum.
    """
    size = 1 << len(tasks)
    values = [0.0] + [value(_named(tasks, mask)) for mask in range(1, size)]
    total = [-np.inf] * size
    total[0] = 0.0
    taken: list[list[int]] = []
    found: list[Division | None] = []
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


def _traced(tasks: Sequence[str], taken: list[list[int]]) -> Division:
    mask, found = (1 << len(tasks)) - 1, []
    for choice in reversed(taken):
        found.append(_named(tasks, choice[mask]))
        mask ^= choice[mask]
    return found


def _named(tasks: Sequence[str], mask: int) -> tuple[str, ...]:
    return tuple(task for at, task in enumerate(tasks) if mask >> at & 1)

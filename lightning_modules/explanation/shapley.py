"""Shapley values: what each of a few players adds to what all of them reach together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from math import factorial

from torch import Tensor

from pollinate.errors import UsageError

MOST = 4  # players: 16 coalitions


def shapley_values(
    value: Callable[[frozenset[str]], Tensor], players: Sequence[str]
) -> dict[str, Tensor]:
    """Return phi_i = sum over S without i of |S|! (n - |S| - 1)! / n! (v(S + i) - v(S)).

    Source: Shapley 1953; they sum up to v(all) - v(none).

    Args:
        value: v, of a coalition of players: (N,).
        players: n of them, <= 4.

    Raises:
        UsageError: there are more.
    """
    count = len(players)
    if count > MOST:
        raise UsageError(f"exact Shapley values are for <= {MOST} players, got {count}")
    coalitions = [frozenset(c) for size in range(count + 1) for c in combinations(players, size)]
    worth = {own: value(own) for own in coalitions}
    found = {}
    for player in players:
        total = worth[frozenset()] * 0
        for own in coalitions:
            if player not in own:
                weight = factorial(len(own)) * factorial(count - len(own) - 1) / factorial(count)
                total = total + weight * (worth[own | {player}] - worth[own])
        found[player] = total
    return found

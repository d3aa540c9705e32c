"""The time that there is: what trials will take, and how many fit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SHRINK = 3  # a third of the trials of a rung go on to the next
SHORTEST = 30.0  # seconds of a trial's first rung; to begin a process for less wastes time


@dataclass(frozen=True)
class Costs:
    """Seconds that trials take.

    start: before the first step; unit: for an epoch of all tasks' rows, at the recipe's options.
    ratio: how many times longer than expected those that have ended took.
    """

    start: float
    unit: float
    ratio: float = 1.0

    def seconds(self, share: float, epochs: float) -> float:
        """Return the seconds of a run: start + r u share epochs.

        Args:
            share: of all tasks' rows; epochs: to train.
        """
        return self.start + self.ratio * self.unit * share * epochs


def learnt_ratio(expected: Sequence[float], taken: Sequence[float]) -> float:
    """Return how many times longer than expected runs took, 1 where none has ended."""
    return sum(taken) / sum(expected) if expected and sum(expected) > 0 else 1.0


def rungs(epochs: int, seconds: float) -> list[int]:
    """Return the epochs after which trials are compared, the last one their end.

    epochs / 3^k, as long as the shortest one is worth a process. Source: Jamieson & Talwalkar 2016,
    "Non-stochastic best arm identification and hyperparameter optimization", algorithm 1.

    Args:
        epochs: of a whole run; seconds: that it takes.
    """
    count = 1
    while seconds / SHRINK >= SHORTEST:
        count += 1
        seconds /= SHRINK
    return divided(epochs, count)


def divided(epochs: int, count: int) -> list[int]:
    """Return the epochs of ``count`` rungs, or of as many as the epochs can be divided into."""
    found = [epochs]
    while len(found) < count and found[0] // SHRINK >= 1:
        found.insert(0, max(1, round(found[0] / SHRINK)))
    return found


def promoted(count: int) -> int:
    """Return how many of a rung's trials go on."""
    return max(1, math.ceil(count / SHRINK))


def wall_seconds(count: int, each: Sequence[float], jobs: int) -> float:
    """Return how long trials take that begin together and go through all rungs.

    Args:
        count: trials of the first rung.
        each: seconds from one rung to the next, of each rung; jobs: at a time.
    """
    total = 0.0
    for seconds in each:
        total += math.ceil(count / jobs) * seconds
        count = promoted(count)
    return total


def most_trials(wanted: int, each: Sequence[float], jobs: int, seconds: float) -> int:
    """Return how many trials may begin, up to those wanted, so that the last one ends in time."""
    fitting = (n for n in range(wanted, 0, -1) if wall_seconds(n, each, jobs) <= seconds)
    return next(fitting, 0)


def makespan(seconds: Sequence[float], jobs: int) -> float:
    """Return how long runs take, each begun in its turn as soon as there is a place."""
    places = [0.0] * jobs
    for own in seconds:
        first = places.index(min(places))
        places[first] += own
    return max(places)


def fitting(seconds: Mapping[str, float], jobs: int, limit: float) -> list[str]:
    """Return the names of runs that end in time: the longest are left out until all do."""
    kept = dict(seconds)
    while kept and makespan(list(kept.values()), jobs) > limit:
        del kept[max(kept, key=lambda name: kept[name])]
    return list(kept)


def best_third(qualities: Mapping[str, float | None], count: int) -> list[str]:
    """Return the names of the best, in the order in which they were given."""
    known = {name: value for name, value in qualities.items() if value is not None}
    best = sorted(known, key=lambda name: -known[name])[:count]
    return [name for name in qualities if name in best]

"""Which coefficients of branches are tried, l >= 0, sum_b l_b = 1, and which are accepted."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from pollinate.errors import UsageError
from pollinate.recipes import Buildable

Coefficients = tuple[float, ...]
Objective = Callable[[Coefficients], float]  # larger is better; -inf for what is no choice


class CoefficientSearch(metaclass=Buildable):
    """Looks for the coefficients with the largest value.

    Examples:
        >>> import torch, pollinate as po
        >>> class BestAlone(po.transfer.CoefficientSearch):
        ...     def run(self, branches, value, seed):
        ...         corners = torch.eye(branches).tolist()
        ...         return max(map(tuple, corners), key=value)
        >>> BestAlone().run(3, value=lambda shares: shares[1], seed=0)
        (0.0, 1.0, 0.0)
    """

    @abstractmethod
    def run(self, branches: int, value: Objective, seed: int) -> Coefficients:
        """Return the best coefficients that were tried, the first of several.

        Args:
            branches: B >= 1.
            value: measures a merge; each call costs a validation.
            seed: of what is drawn.
        """


class DividedSearch(CoefficientSearch):
    """A search whose steps are multiples of 1 / divisions.

    Args:
        divisions: >= 1; 1 tries the branches without any mixture.

    Examples:
        >>> import pollinate as po
        >>> def value(shares):  # in a run, the validation score of the merged branches
        ...     return -abs(shares[0] - 0.7)
        >>> po.transfer.GridSearch(divisions=4).run(2, value, seed=0)
        (0.75, 0.25)
    """

    def __init__(self, divisions: int = 5) -> None:
        if divisions < 1:
            raise UsageError(f"divisions must be >= 1, got {divisions}; 1 tries no mixtures")
        self.divisions = divisions


class GridSearch(DividedSearch):
    """All points whose coefficients are multiples of 1 / d: C(d + B - 1, B - 1) of them.

    Args:
        divisions: d >= 1; 1 tries the branches without any mixture.

    Examples:
        >>> import pollinate as po
        >>> def value(shares):  # in a run, the validation score of the merged branches
        ...     return -abs(shares[0] - 0.7)
        >>> po.transfer.GridSearch(divisions=4).run(2, value, seed=0)
        (0.75, 0.25)
    """

    def run(self, branches: int, value: Objective, seed: int) -> Coefficients:
        points = (
            tuple(count / self.divisions for count in counts)
            for counts in compositions(self.divisions, branches)
        )
        return max(points, key=value)


class RandomSearch(CoefficientSearch):
    """Each branch, their mean, and points drawn uniformly from the simplex.

    Args:
        draws: >= 0.

    Examples:
        >>> import pollinate as po
        >>> def value(shares):  # in a run, the validation score of the merged branches
        ...     return -abs(shares[0] - 0.7)
        >>> found = po.transfer.RandomSearch(draws=100).run(2, value, seed=0)
        >>> abs(found[0] - 0.7) < 0.1, round(sum(found), 4)
        (True, 1.0)
    """

    def __init__(self, draws: int = 10) -> None:
        if draws < 0:
            raise UsageError(f"draws must be >= 0, got {draws}; 0 tries branches and their mean")
        self.draws = draws

    def run(self, branches: int, value: Objective, seed: int) -> Coefficients:
        generator = torch.Generator().manual_seed(seed)
        # exponential variables over their sum are uniform on the simplex
        drawn = torch.rand(self.draws, branches, generator=generator, dtype=torch.float64)
        lengths = -torch.log1p(-drawn)
        shares = lengths / lengths.sum(dim=1, keepdim=True)
        points = [*corners(branches), (1 / branches,) * branches]
        return max([*points, *(tuple(row) for row in shares.tolist())], key=value)


class CoordinateSearch(DividedSearch):
    """Starts at the best branch and mixes in the others one by one: l <- (1 - a) l + a e_b.

    Source: ForkMerge's greedy search (Jiang et al. 2023, section 4.2), with a from a grid.

    Args:
        divisions: a is a multiple of 1 / divisions, >= 1.

    Examples:
        >>> import pollinate as po
        >>> def value(shares):  # in a run, the validation score of the merged branches
        ...     return -abs(shares[0] - 0.7)
        >>> po.transfer.CoordinateSearch(divisions=4).run(2, value, seed=0)
        (0.75, 0.25)
    """

    def run(self, branches: int, value: Objective, seed: int) -> Coefficients:
        order = sorted(corners(branches), key=value, reverse=True)
        best = order[0]
        for other in order[1:]:
            shares = [number / self.divisions for number in range(self.divisions)]
            best = max((interpolate(best, other, share) for share in shares), key=value)
        return best


def interpolate(first: Coefficients, second: Coefficients, share: float) -> Coefficients:
    """Return (1 - share) first + share second."""
    return tuple((1 - share) * a + share * b for a, b in zip(first, second, strict=True))


def corners(branches: int) -> list[Coefficients]:
    """Return the corners of the simplex: point b has all weight on branch b."""
    return [tuple(float(b == own) for b in range(branches)) for own in range(branches)]


def compositions(total: int, terms: int) -> Iterator[tuple[int, ...]]:
    """Yield all ways to write a number as an ordered sum of that many numbers >= 0."""
    if terms == 1:
        yield (total,)
        return
    for first in range(total, -1, -1):
        for others in compositions(total - first, terms - 1):
            yield (first, *others)


ROUNDING = 1e-6  # of scores, which are in 32 bits
TaskScores = Mapping[str, float]  # {task: main score, larger is better}


@dataclass
class Acceptance:
    """No task may fall: s_t >= b_t - tolerance_t, b_t being its best accepted score.

    The best and not the last, so that small falls can't add up over the rounds.

    targets: tasks whose mean score is made large.
    tolerance: {task: largest fall, >= 0}; a task that isn't named may fall.
    baseline: {task: b_t}.
    """

    targets: Sequence[str]
    tolerance: TaskScores
    baseline: dict[str, float] = field(default_factory=dict)

    def gain(self, scores: TaskScores) -> float:
        """Return the mean score of the targets, -inf where one has none."""
        found = [scores.get(task, math.nan) for task in self.targets]
        mean = sum(found) / len(found)
        return -math.inf if math.isnan(mean) else mean

    def fallen(self, scores: TaskScores) -> dict[str, float]:
        """Return {task: by how much it is below its baseline} where that is beyond tolerance.

        A score that is no number is a fall without end.
        """
        falls = {
            task: self.baseline[task] - scores.get(task, math.nan)
            for task in self.tolerance
            if task in self.baseline
        }
        falls = {task: math.inf if math.isnan(fall) else fall for task, fall in falls.items()}
        return {t: fall for t, fall in falls.items() if fall > self.tolerance[t] + ROUNDING}

    def value(self, scores: TaskScores) -> float:
        """Return the gain of a merge, -inf for one that isn't accepted."""
        return -math.inf if self.fallen(scores) else self.gain(scores)

    def accept(self, scores: TaskScores) -> None:
        """Let the baselines rise."""
        for task, score in scores.items():
            if not math.isnan(score):
                self.baseline[task] = max(score, self.baseline.get(task, score))

"""The schedule contract: a factor on the learning rate for every optimizer step."""

from __future__ import annotations

import math
from abc import abstractmethod

from pollinate.errors import UsageError
from pollinate.recipes import Buildable


class Schedule(metaclass=Buildable):
    """Learning rate at step k is lr * factor(k): a linear warm-up, then ``shape``.

    factor(k) = (k + 1) / (W + 1) for k < W, then shape(p), p = (k - W) / (S - W) in [0, 1].

    Args:
        warmup: W, optimizer steps, >= 0.

    Examples:
        >>> import pollinate as po
        >>> class Square(po.schedules.Schedule):
        ...     def shape(self, progress):
        ...         return (1 - progress) ** 2
        >>> schedule = Square(warmup=3)
        >>> [schedule.factor(step, 7) for step in range(8)]
        [0.25, 0.5, 0.75, 1.0, 0.5625, 0.25, 0.0625, 0.0]
    """

    def __init__(self, warmup: int = 0) -> None:
        if warmup < 0:
            raise UsageError(f"schedule.warmup must be >= 0 optimizer steps, got {warmup}")
        self.warmup = warmup

    @abstractmethod
    def shape(self, progress: float) -> float:
        """Return the factor after the warm-up; ``progress`` goes from 0 to 1."""

    def factor(self, step: int, steps: int | None) -> float:
        """Return the factor of optimizer step ``step`` (from 0) of ``steps``.

        ``steps`` None means that the run has no end; progress then stays 0.
        """
        if step < self.warmup:
            return (step + 1) / (self.warmup + 1)
        if steps is None:
            return self.shape(0.0)
        return self.shape(min(1.0, (step - self.warmup) / max(1, steps - self.warmup)))


def half_cosine(progress: float) -> float:
    """Return (1 + cos(pi p)) / 2: from 1 to 0."""
    return (1 + math.cos(math.pi * progress)) / 2

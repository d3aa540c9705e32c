"""Cosine decay."""

from __future__ import annotations

from lightning_modules.schedules.base import Schedule, half_cosine


class Cosine(Schedule):
    """shape(p) = e + (1 - e) (1 + cos(pi p)) / 2. Source: Loshchilov and Hutter 2017, equation 5.

    Args:
        warmup: optimizer steps, >= 0.
        end: e, the factor at the last step.

    Examples:
        >>> import pollinate as po
        >>> schedule = po.schedules.Cosine(end=0.1)
        >>> [round(schedule.factor(step, 100), 3) for step in (0, 50, 100)]
        [1.0, 0.55, 0.1]
    """

    def __init__(self, warmup: int = 0, end: float = 0.0) -> None:
        super().__init__(warmup)
        self.end = end

    def shape(self, progress: float) -> float:
        """Return the half cosine from 1 to ``end``."""
        return self.end + (1.0 - self.end) * half_cosine(progress)

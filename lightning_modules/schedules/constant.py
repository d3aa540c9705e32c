"""Constant learning rate."""

from __future__ import annotations

from lightning_modules.schedules.base import Schedule


class Constant(Schedule):
    """shape(p) = 1.

    Examples:
        >>> import pollinate as po
        >>> schedule = po.schedules.Constant(warmup=3)
        >>> [schedule.factor(step, 100) for step in (0, 1, 2, 3, 99)]
        [0.25, 0.5, 0.75, 1.0, 1.0]
    """

    def shape(self, progress: float) -> float:
        return 1.0

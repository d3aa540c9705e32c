"""Linear decay."""

from __future__ import annotations

from lightning_modules.schedules.base import Schedule


class Linear(Schedule):
    """shape(p) = 1 - (1 - e) p.

    Args:
        warmup: optimizer steps, >= 0.
        end: e, the factor at the last step.

    Examples:
        >>> import pollinate as po
        >>> schedule = po.schedules.Linear(warmup=1)
        >>> [schedule.factor(step, 5) for step in range(6)]
        [0.5, 1.0, 0.75, 0.5, 0.25, 0.0]
    """

    def __init__(self, warmup: int = 0, end: float = 0.0) -> None:
        super().__init__(warmup)
        self.end = end

    def shape(self, progress: float) -> float:
        """Return the straight line from 1 to ``end``."""
        return 1.0 - (1.0 - self.end) * progress

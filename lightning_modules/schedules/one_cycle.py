"""One cycle: up, then down below the start."""

from __future__ import annotations

from lightning_modules.schedules.base import Schedule, half_cosine
from pollinate.errors import UsageError


class OneCycle(Schedule):
    """Half a cosine from ``start`` up to 1 over the share ``rise``, then down to ``end``.

    Source: Smith and Topin 2018, with cosine for straight lines; momentum is left alone.

    Args:
        warmup: optimizer steps of linear warm-up before the cycle, >= 0.
        rise: share of the steps in which the rate goes up, in [0, 1).
        start: factor at the start, > 0.
        end: factor at the last step.

    Examples:
        >>> import pollinate as po
        >>> schedule = po.schedules.OneCycle(rise=0.25, start=0.04, end=0.001)
        >>> [round(schedule.factor(step, 100), 3) for step in (0, 25, 50, 100)]
        [0.04, 1.0, 0.75, 0.001]
    """

    def __init__(
        self, warmup: int = 0, rise: float = 0.25, start: float = 0.04, end: float = 1e-3
    ) -> None:
        super().__init__(warmup)
        if not 0 <= rise < 1:
            raise UsageError(f"schedule.rise must be in [0, 1), got {rise}")
        self.rise = rise
        self.start = start
        self.end = end

    def factor(self, step: int, steps: int | None) -> float:
        """Return the factor; a warm-up leads up to ``start``, not to 1."""
        scale = self.start if step < self.warmup else 1.0
        return scale * super().factor(step, steps)

    def shape(self, progress: float) -> float:
        """Return the factor at ``progress`` of the cycle."""
        if progress < self.rise:
            return 1.0 + (self.start - 1.0) * half_cosine(progress / self.rise)
        down = (progress - self.rise) / (1.0 - self.rise)
        return self.end + (1.0 - self.end) * half_cosine(down)

"""Constant learning rate."""

from __future__ import annotations

from lightning_modules.schedules.base import Schedule


class Constant(Schedule):
    """shape(p) = 1."""

    def shape(self, progress: float) -> float:
        return 1.0

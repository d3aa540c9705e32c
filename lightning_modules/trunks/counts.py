"""Ranges of a trunk's options."""

from __future__ import annotations

from pipeline.errors import UsageError


def at_least(low: int, **values: float) -> None:
    """Check options by their names.

    Raises:
        UsageError: one is too small.
    """
    for name, value in values.items():
        if value < low:
            raise UsageError(f"{name} must be >= {low}, got {value}")

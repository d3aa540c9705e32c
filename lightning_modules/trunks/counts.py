"""Numbers of a trunk's parts."""

from __future__ import annotations

from pipeline.errors import UsageError


def at_least(low: int, **values: int) -> None:
    """Check numbers of parts.

    Raises:
        UsageError: one is too small.
    """
    for name, value in values.items():
        if value < low:
            raise UsageError(f"{name} must be >= {low}, got {value}")

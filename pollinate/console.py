"""Where the work tells people what it does: nothing where Python asked for quiet."""

from __future__ import annotations

from contextvars import ContextVar

from rich.console import Console

is_quiet: ContextVar[bool] = ContextVar("is_quiet", default=False)


def new_console(*, stderr: bool = False) -> Console:
    """Return a console on standard output, or on standard error, that keeps silent if it should."""
    return Console(stderr=stderr, quiet=is_quiet.get())

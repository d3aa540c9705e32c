"""Whether the processes of a run work on one step together, or each on its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from torch import distributed

_ALONE: ContextVar[bool] = ContextVar("alone", default=False)


def together() -> bool:
    """Say whether there are other processes to exchange numbers with here."""
    if _ALONE.get():
        return False
    return distributed.is_available() and distributed.is_initialized()


@contextmanager
def alone(active: bool = True) -> Iterator[None]:
    """Inside, this process exchanges nothing: its rows are all that there are.

    Args:
        active: False changes nothing.
    """
    token = _ALONE.set(active or _ALONE.get())
    try:
        yield
    finally:
        _ALONE.reset(token)

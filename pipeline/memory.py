"""Says what to do when memory runs out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from pipeline.errors import PollinateError

# how torch's allocator for the CPU says it, as a plain RuntimeError
FULL = ("can't allocate memory", "not enough memory")


@contextmanager
def explained_memory(key: str, rows: int, more: str = "") -> Iterator[None]:
    """Turn running out of memory into an error that names a batch size to try.

    Args:
        key: that sets the batch size.
        rows: that it is now.
        more: another remedy, for the message.

    Raises:
        PollinateError: memory ran out inside.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not is_full(error):
            raise
        raise PollinateError(
            f"memory ran out in batches of {rows:,} rows; try {key}={max(1, rows // 2)}{more}"
        ) from error


def is_full(error: Exception) -> bool:
    """Say whether an error means that memory ran out."""
    plain = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return plain or any(text in str(error) for text in FULL)

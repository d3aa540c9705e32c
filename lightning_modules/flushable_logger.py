"""Loggers that keep what they were given for a while, and can be told to write it down."""

from __future__ import annotations

from abc import ABC, abstractmethod

from lightning.pytorch.loggers.logger import Logger


class FlushableLogger(Logger, ABC):
    """A logger that ``RunCheckpoint`` flushes before it writes a checkpoint.

    So a run that is resumed has all metrics from before its checkpoint on disk. It is given a
    step's metrics before the checkpoint and once more after it, and leaves out what it has.
    """

    @abstractmethod
    def flush(self) -> None:
        """Return when all that was logged before is on disk."""

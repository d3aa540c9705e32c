"""Ctrl-C and SIGTERM as a polite request: finish the step, save, stop."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType
from typing import Any

SIGNAL_EXIT_CODES = {"SIGINT": 130, "SIGTERM": 143}  # what a shell reports for these
STOPPING = (
    "\nstopping: the step under way is finished and saved "
    "(a validation under way is finished first); Ctrl-C again stops at once\n"
)


class StopRequest:
    """Remembers that a signal asked the run to stop; a second Ctrl-C stops at once.

    Attributes:
        signal_name: the signal that asked, None before.
    """

    def __init__(self, message: str = STOPPING) -> None:
        self.message = message
        self.signal_name: str | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def install(self) -> None:
        """Take over SIGINT and SIGTERM; outside of the main thread, which alone gets them, not."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._receive)

    def restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.signal_name is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        if self.signal_name is None:
            sys.stderr.write(self.message)
        self.signal_name = signal.Signals(number).name

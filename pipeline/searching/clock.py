"""How long a search has been at work, in all its sessions."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from pipeline.studies.trial_files import is_score, read_json
from pipeline.text_format import duration
from pollinate.errors import PollinateError
from pollinate.files import write_json

FILE = "clock.json"
EVERY = 5.0  # seconds between two notes


class Clock:
    """Counts the seconds of earlier sessions and of this one; a kill loses five of them at most.

    Args:
        folder: of the search.
        started: ``time.perf_counter()`` when this session began.
    """

    def __init__(self, folder: Path, started: float) -> None:
        self.file = folder / FILE
        self.started = started
        self.noted = 0.0
        try:
            found = read_json(self.file)
        except PollinateError:  # torn: what is lost is time that was counted
            found = None
        seconds: Any = found.get("seconds") if isinstance(found, dict) else None
        self.earlier = max(0.0, float(seconds)) if is_score(seconds) else 0.0

    def seconds(self) -> float:
        """Return the seconds of all sessions."""
        return self.earlier + time.perf_counter() - self.started

    def tick(self) -> None:
        """Note the time now and then."""
        if time.monotonic() - self.noted >= EVERY:
            self.note()

    def note(self) -> None:
        """Write the seconds so far."""
        self.noted = time.monotonic()
        write_json(self.file, {"seconds": round(self.seconds(), 1)})

    def rest(self, limit: float) -> str:
        """Return how much time is left, for people."""
        return f" ({duration(max(0.0, limit - self.seconds()))} left)"

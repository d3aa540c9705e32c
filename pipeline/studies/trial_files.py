"""A trial's files, written whole or not at all, and what is known of its sessions."""

from __future__ import annotations

import math
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from pipeline.crash_report import has_crashed_before
from pipeline.engines.engine import Outcome
from pipeline.run_folder import RunFolder
from pollinate.errors import PollinateError
from pollinate.files import write_json
from pollinate.foreign import read_json as read_foreign


def read_json(path: Path) -> Any:
    try:
        return read_foreign(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise PollinateError(
            f"{path} can't be read: {error}; restore it, or remove it with what belongs to it, and "
            "start again"
        ) from error


STEP = re.compile(rb'^\{"step": ?(\d+)', re.MULTILINE)
TAIL = 65_536  # bytes of a history that are looked at for its last step


@dataclass
class TrialFiles:
    """A trial's run folder and, beside it, its log, lock and ledger.

    path: of the run folder, which pipeline.fit wants new. stop: appears when a trial on another
        machine is asked to stop.
    """

    path: Path

    def __post_init__(self) -> None:
        self.run = RunFolder(self.path)
        self.log, self.lock, self.ledger, self.stop = (
            self.path.with_name(f"{self.path.name}.{suffix}")
            for suffix in ("log", "lock", "json", "stop")
        )

    def summary(self) -> dict[str, Any]:
        """Return summary.json, empty if there is none or it is damaged: the run writes it anew."""
        try:
            found = read_json(self.run.summary)
        except PollinateError:
            return {}
        return found if isinstance(found, dict) else {}

    def is_finished(self) -> bool:
        return bool(self.summary().get("status") == "finished")

    def can_go_on(self) -> bool:
        """Say whether there is a run to resume: it has written its configuration."""
        return self.run.config.is_file()

    def clear(self) -> None:
        """Remove what a run left that was stopped before it had written its configuration.

        The report of a crash stays; a new run takes such a folder.
        """
        if self.path.is_dir() and not self.can_go_on() and not has_crashed_before(self.path):
            shutil.rmtree(self.path)

    def step(self) -> int:
        try:
            with self.run.metrics.open("rb") as file:
                file.seek(0, 2)
                file.seek(max(0, file.tell() - TAIL))
                found = STEP.findall(file.read())
        except OSError:
            return 0
        return int(found[-1]) if found else 0

    def last_sign(self) -> float:
        """Return when the run last wrote anything, in seconds since 1970; 0.0 for never."""
        files = [*self.path.glob("*"), *self.run.checkpoints.glob("*"), self.log]
        return max((file.stat().st_mtime for file in files if file.exists()), default=0.0)


class TrialLedger:
    """What the study knows of a trial beyond its run folder, on disk at every change.

    Attributes:
        status: running, finished, failed, timeout or interrupted; None before the first session.
        message: of a failure; memory: most bytes that a session's process held.
        session: the order that was submitted last; one that comes late sees that it isn't its own.
        extra: what a job keeps: values that a search drew.
    """

    def __init__(self, files: TrialFiles) -> None:
        self._files = files
        found = read_json(files.ledger)
        known = found if isinstance(found, dict) else {}
        self.sessions: list[list[float | None]] = known.get("sessions", [])
        self.status: str | None = known.get("status")
        self.message: str | None = known.get("message")
        self.memory: int | None = known.get("memory")
        self.session: str | None = known.get("session")
        self.extra: dict[str, Any] = known.get("extra", {})

    @property
    def seconds(self) -> float:
        """Wall time of all sessions; one that was killed counts to its last sign of life."""
        total = 0.0
        for start, end in self.sessions:
            assert start is not None
            total += max(0.0, (self._files.last_sign() if end is None else end) - start)
        return total

    def begin(self, session: str) -> None:
        if self.sessions and self.sessions[-1][1] is None:
            start = self.sessions[-1][0] or 0.0
            self.sessions[-1][1] = max(start, self._files.last_sign())
        self.sessions.append([time.time(), None])
        self.status, self.message, self.session = "running", None, session
        self.save()

    def end(self, status: str, message: str | None, outcome: Outcome) -> None:
        """Note how the last session ended; what it waited for a place is not of it."""
        now = time.time()
        self.sessions[-1] = [max(self.sessions[-1][0] or 0.0, now - outcome.seconds), now]
        self.status, self.message = status, message
        known = [value for value in (self.memory, outcome.memory) if value is not None]
        self.memory = max(known, default=None)
        self.save()

    def save(self) -> None:
        content = {
            "status": self.status,
            "message": self.message,
            "memory": self.memory,
            "session": self.session,
            "sessions": self.sessions,
            "extra": self.extra,
        }
        write_json(self._files.ledger, content)


def safe_name(name: str) -> str:
    """Return an arm's name as one of a folder: ``pair:a+b`` -> ``pair-a+b``."""
    text = name.replace(">", "-to-").replace("%", "pc").replace("*", "x")
    return re.sub(r"[^A-Za-z0-9_.+-]+|^\.+$", "-", text)


def is_score(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and math.isfinite(value)

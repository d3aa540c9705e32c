"""The sender's process: ``python -m pipeline.tracking.worker``, started by a run.

MLflow takes about two seconds of processor time to import and 0.1 ms for each point. In a
thread all of that would hold the interpreter's lock that training needs; here it runs beside
training, at low priority, and can neither crash nor delay it.

Input: one line of settings, then "close" when the run has ended. An end of input without it
means that the run was killed. Output: one JSON event a line.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, TextIO

from pipeline.run_folder import LOCK
from pipeline.tracking.journals import has_ended
from pipeline.tracking.redact import redact_text
from pipeline.tracking.sender import (
    OPERATIONS,
    ReportEvent,
    RunDeletedError,
    Sender,
    record_crash,
)

INTERVAL = 5.0  # seconds between two sends
_LONGEST_WAIT = 60.0  # seconds between two attempts to reach the server
_MOST_MEMORY = 2_000_000_000  # bytes; MLflow with a database takes 300 MB
_LAST_ATTEMPTS = 3  # when nobody waits for the result any more


def report(event: str, **details: Any) -> None:
    """Tell the run's process; it may be gone, then nobody needs to know."""
    with suppress(OSError):
        _events.write(json.dumps({"event": event, **details}) + "\n")
        _events.flush()


_events: TextIO = sys.stdout  # MLflow prints to sys.stdout, which main() turns away


class Control:
    """What the run's process wants, read from the input by a thread of its own."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._changed = threading.Event()
        self.closing = False
        self.orphaned = False
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self._stream:
            self.closing = self.closing or line.strip() == "close"
            self._changed.set()
        self.orphaned = True
        self._changed.set()

    def wait(self, seconds: float) -> None:
        if self._changed.wait(seconds):
            self._changed.clear()


class Status(Protocol):
    """The part of a server that sets a run's status."""

    def set_status(self, status: str, time_ms: int) -> None:
        """Set an MLflow status with the time of the end, milliseconds since 1970."""


def serve(sender: Sender, server: Status, control: Control, interval: float = INTERVAL) -> None:
    """Send until the run has ended and everything is out, or nobody waits any more."""
    failures = 0
    while True:
        ending = control.closing or control.orphaned
        try:
            if control.orphaned:
                record_crash(sender.run_dir)
            sender.send()
            if control.orphaned and not has_ended(sender.run_dir / OPERATIONS):
                server.set_status("KILLED", time.time_ns() // 1_000_000)
        except RunDeletedError as error:
            report("deleted", run_id=str(error))
            return
        except Exception as error:  # noqa: BLE001  # stores of artifacts raise types of their own
            failures += 1
            report("down", error=_first_line(error), reached=has_answered(error))
            if control.orphaned and failures >= _LAST_ATTEMPTS:
                return
        else:
            failures = 0
            report("up")
            if ending:
                report("closed")
                return
        control.wait(_pause(failures, ending, interval))


def _pause(failures: int, ending: bool, interval: float) -> float:
    if failures == 0:
        return interval
    return 0.5 if ending else min(_LONGEST_WAIT, 2.0 ** min(failures, 10))


def has_answered(error: BaseException) -> bool:
    """Say whether MLflow refused, or failed at, what it was asked, rather than was not there."""
    from requests.exceptions import RequestException, RetryError  # MLflow brings it along

    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, RequestException):
            return cause.response is not None or isinstance(cause, RetryError)
        if isinstance(cause, ConnectionError | TimeoutError):
            return False
        cause = cause.__cause__ or cause.__context__
    return True


def _first_line(error: Exception) -> str:
    lines = redact_text(str(error)).strip().splitlines()
    text = lines[0] if lines else ""
    return f"{type(error).__name__}: {text if len(text) < 200 else text[:200] + ' ...'}"


def open_sender(text: str, report: ReportEvent) -> tuple[Sender, Any]:
    from dataclasses import replace

    from pipeline.tracking.mlflow_settings import login, set_timeouts
    from pipeline.tracking.sender import load_cursor, settings_from_json

    settings = settings_from_json(text)
    uri, variables = login(settings.uri)
    os.environ.update(variables)
    set_timeouts()
    from pipeline.tracking.mlflow_server import (
        MlflowServer,  # imports MLflow, so after the variables
    )

    server = MlflowServer(replace(settings, uri=uri))
    run_dir = Path(settings.run_dir)
    cursor = load_cursor(run_dir, redact_text(uri), settings.experiment)
    return Sender(run_dir, server, cursor, report), server


def limit_memory() -> None:
    """Let a server's endless answer fail here, instead of filling the machine's memory."""
    with suppress(ImportError, ValueError, OSError):  # Windows, or there is a lower limit already
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (_MOST_MEMORY, hard))


def main() -> None:
    from filelock import FileLock

    if hasattr(os, "nice"):
        os.nice(10)
    sys.stdout = sys.stderr
    first = sys.stdin.readline()
    control = Control(sys.stdin)
    run_dir = json.loads(first)["run_dir"]
    limit_memory()
    # after a kill and a quick resume the earlier sender may still be at work
    with FileLock(Path(run_dir, LOCK)):
        sender, server = open_sender(first, report)
        serve(sender, server, control)


if __name__ == "__main__":
    main()

"""Sends what the journals hold and the server lacks, and remembers how far it got."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from pipeline.tracking.journals import (
    MetricPoint,
    OperationJournal,
    has_ended,
    points_of,
    read_records,
)
from pollinate.files import path_inside, replacing
from pollinate.foreign import read_json

KEY_TAG = "pollinate.key"  # the run's own name, known before any server answers
PARENT_TAG = "mlflow.parentRunId"  # by it MLflow shows a run below another


@dataclass(frozen=True)
class SenderSettings:
    """One run and its tracking server.

    Attributes:
        uri: address; sqlite with an absolute path.
        experiment: MLflow's experiment.
        run_dir: absolute path of the run folder.
        run_name: name on MLflow's pages.
        key: unique and the same after a resume; by it the run is found on the server.
        user: who started the run.
        start_ms: milliseconds since 1970.
    """

    uri: str
    experiment: str
    run_dir: str
    run_name: str
    key: str
    user: str
    start_ms: int

    def to_json(self) -> str:
        """One line for the sender's input."""
        return json.dumps(asdict(self))


def settings_from_json(text: str) -> SenderSettings:
    return SenderSettings(**json.loads(text))


CURSOR_FILE = "tracking.json"


@dataclass
class SendCursor:
    """The MLflow run of a run folder, and how far each journal has been sent.

    Losing it costs time, not truth: the run is found again by its key, and points that
    arrive a second time are the same points.

    Attributes:
        uri: address without user and password.
        run_id: None before the server's first answer.
        offsets: journal's file name -> bytes sent.
        models: key of a model's registration -> id of the logged model.
    """

    path: Path
    uri: str
    experiment: str
    run_id: str | None = None
    offsets: dict[str, int] = field(default_factory=dict)
    models: dict[str, str] = field(default_factory=dict)

    def save(self) -> None:
        """Write the file, whole or not at all."""
        content = {key: value for key, value in asdict(self).items() if key != "path"}
        with replacing(self.path) as new:  # not synced: what was sent twice is the same points
            new.write_text(json.dumps(content, indent=1))

    def restart(self) -> None:
        """Forget the run: the next one gets everything from the beginning."""
        self.run_id, self.offsets, self.models = None, {}, {}


def load_cursor(run_dir: Path, uri: str, experiment: str) -> SendCursor:
    """Read a run folder's cursor; a new one if it has none or speaks of another server."""
    new = SendCursor(run_dir / CURSOR_FILE, uri, experiment)
    try:
        old = SendCursor(path=new.path, **read_json(new.path))
        plain = [*old.offsets.values(), 0]
        sound = all(isinstance(n, int) and n >= 0 for n in plain) and isinstance(old.models, dict)
    except (OSError, ValueError, TypeError, AttributeError):  # none yet, or torn: start again
        return new
    if not sound or not isinstance(old.run_id, str | None):
        return new
    return old if (old.uri, old.experiment) == (uri, experiment) else new


def sent_bytes(run_dir: Path) -> dict[str, int]:
    """Return {journal's file name: bytes that a server has}; empty if none has answered yet."""
    try:
        found: dict[str, int] = read_json(run_dir / CURSOR_FILE)["offsets"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return found


def stored_run_id(run_dir: Path) -> str | None:
    """Give the MLflow run id of a run folder; None if no server has answered yet."""
    try:
        run_id = read_json(run_dir / CURSOR_FILE)["run_id"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return None if run_id is None else str(run_id)


METRICS, SYSTEM, OPERATIONS = "metrics.jsonl", "system.jsonl", "operations.jsonl"
CRASH_REPORTS = "crash*.txt"  # in a run folder, one a process
POINTS_PER_BATCH = 1000  # points or operations a call, MLflow's own limit
_LINES = 250  # read at once

Operation = Mapping[str, Any]
ReportEvent = Callable[..., None]


class RefusedError(Exception):
    """The server answers, and will never take this: sending it again is of no use."""


class RunDeletedError(Exception):
    """Someone deleted the run on the server, so nothing more may be sent to it."""


class TrackingServer(Protocol):
    """A tracking server, as the sender needs it. Each call may be repeated without harm."""

    def open_run(self, cursor: SendCursor) -> None:
        """Find or create the run and set ``cursor.run_id``."""

    def send_points(self, points: list[MetricPoint]) -> None:
        """Store points; raises RefusedError if one of them cannot be stored."""

    def send_operation(self, operation: Operation, cursor: SendCursor) -> None:
        """Carry out one operation; raises RefusedError if that is impossible."""


class Sender:
    """Moves a cursor along the journals of one run.

    Args:
        run_dir: holds the journals.
        target: where they go.
        cursor: how far they have been sent; saved after each batch.
        report: called with an event's name and details: run, sent, refused.
    """

    def __init__(
        self, run_dir: Path, target: TrackingServer, cursor: SendCursor, report: ReportEvent
    ) -> None:
        self.run_dir = run_dir
        self.cursor = cursor
        self._target = target
        self._report = report
        self._is_open = False

    def send(self) -> None:
        """Send all that is in the journals now; raises what the target raises."""
        try:
            self._open()
            # operations last: the final status must not come before the points
            for name in (METRICS, SYSTEM):
                self._send_points(name)
            self._send_operations()
        except BaseException:
            self._is_open = False  # the server may come back with another database
            raise

    def _open(self) -> None:
        if not self._is_open:
            self._target.open_run(self.cursor)
            self.cursor.save()
            self._report("run", run_id=self.cursor.run_id)
            self._is_open = True

    def unsent_bytes(self) -> int:
        """Size of what the server lacks."""
        paths = [self.run_dir / name for name in (METRICS, SYSTEM, OPERATIONS)]
        return sum(
            path.stat().st_size - self.cursor.offsets.get(path.name, 0)
            for path in paths
            if path.exists()
        )

    def _batches(self, name: str) -> Iterator[list[tuple[dict[str, Any], int]]]:
        lines = read_records(self.run_dir / name, self.cursor.offsets.get(name, 0))
        while batch := list(islice(lines, _LINES)):
            yield batch

    def _advance(self, name: str, offset: int) -> None:
        self.cursor.offsets[name] = offset
        self.cursor.save()
        self._report("sent")

    def _send_points(self, name: str) -> None:
        for lines in self._batches(name):
            points = [p for record, _ in lines if "op" not in record for p in points_of(record)]
            for start in range(0, len(points), POINTS_PER_BATCH):
                self._send_accepted(points[start : start + POINTS_PER_BATCH])
            self._advance(name, lines[-1][1])

    def _send_accepted(self, points: list[MetricPoint]) -> None:
        """Send points; those that the server refuses are found by halving, and reported."""
        try:
            self._target.send_points(points)
        except RefusedError as error:
            if len(points) == 1:
                self._report("refused", what=points[0].key, error=str(error))
                return
            middle = len(points) // 2
            self._send_accepted(points[:middle])
            self._send_accepted(points[middle:])

    def _send_operations(self) -> None:
        for lines in self._batches(OPERATIONS):
            newest = {_identity(record): offset for record, offset in lines}
            for record, offset in lines:
                if "op" in record and newest[_identity(record)] == offset:
                    self._carry_out(record)
                self._advance(OPERATIONS, offset)

    def _carry_out(self, operation: Operation) -> None:
        try:
            if name := SENT.get(operation["op"]):  # a large upload is no standstill
                self._report("upload", bytes=_size(sent_path(self.run_dir, operation[name])))
            self._target.send_operation(operation, self.cursor)
        except RefusedError as error:
            self._report("refused", what=operation["op"], error=str(error))


SENT = {"artifact": "path", "model": "folder"}  # {operation: key of what it sends}


def sent_path(run_dir: Path, name: str) -> Path:
    """Return the file or folder that a journal names: a stranger's may name any of the user's.

    Raises:
        RefusedError: it isn't in the run folder, or there are links on the way or in it.
    """
    try:
        return path_inside(run_dir, name)
    except ValueError as error:
        raise RefusedError(f"{error}; a run sends files of its own folder only") from error


def record_crash(run_dir: Path) -> None:
    """Record that a run crashed, by the reports that its processes left, if it couldn't itself.

    Of several processes the first keeps the record, and is killed when another one crashes.

    Args:
        run_dir: the run folder; no process of the run is at work any more.
    """
    path = run_dir / OPERATIONS
    starts = [r["time_ms"] for r, _ in read_records(path) if r.get("op") == "start"]
    reports = [
        report
        for report in sorted(run_dir.glob(CRASH_REPORTS))
        if starts and report.stat().st_mtime_ns // 1_000_000 >= starts[-1]
    ]
    if not reports or has_ended(path):
        return
    journal = OperationJournal(path)
    for report in reports:
        journal.add("artifact", path=report.name, folder="")
    journal.add("status", status="FAILED")
    journal.close()


def _size(path: Path) -> int:
    """Bytes of a file, or of a folder's files."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def _identity(operation: Operation) -> str:
    """What a later operation replaces: the same file again, or nothing but itself."""
    if operation.get("op") == "artifact":
        return f"artifact {operation['path']} {operation['folder']}"
    return f"{operation.get('op')} {operation.get('time_ms')} {operation}"

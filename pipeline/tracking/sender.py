"""Sends what the journals hold and the server lacks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from pipeline.tracking.cursor import Cursor
from pipeline.tracking.lines import read_lines
from pipeline.tracking.points import Point, points_of

METRICS, SYSTEM, OPERATIONS = "metrics.jsonl", "system.jsonl", "operations.jsonl"
BATCH = 1000  # points or operations a call, MLflow's own limit
_LINES = 250  # read at once

Operation = Mapping[str, Any]
Report = Callable[..., None]


class RefusedError(Exception):
    """The server answers, and will never take this: sending it again is of no use."""


class RunDeletedError(Exception):
    """Someone deleted the run on the server, so nothing more may be sent to it."""


class Target(Protocol):
    """A tracking server, as the sender needs it. Each call may be repeated without harm."""

    def open_run(self, cursor: Cursor) -> None:
        """Find or create the run and set ``cursor.run_id``."""

    def send_points(self, points: list[Point]) -> None:
        """Store points; raises RefusedError if one of them cannot be stored."""

    def send_operation(self, operation: Operation, cursor: Cursor) -> None:
        """Carry out one operation; raises RefusedError if that is impossible."""


class Sender:
    """Moves a cursor along the journals of one run.

    Args:
        run_dir: holds the journals.
        target: where they go.
        cursor: how far they have been sent; saved after each batch.
        report: called with an event's name and details: run, sent, refused.
    """

    def __init__(self, run_dir: Path, target: Target, cursor: Cursor, report: Report) -> None:
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
        lines = read_lines(self.run_dir / name, self.cursor.offsets.get(name, 0))
        while batch := list(islice(lines, _LINES)):
            yield batch

    def _advance(self, name: str, offset: int) -> None:
        self.cursor.offsets[name] = offset
        self.cursor.save()
        self._report("sent")

    def _send_points(self, name: str) -> None:
        for lines in self._batches(name):
            points = [point for record, _ in lines for point in points_of(record)]
            for start in range(0, len(points), BATCH):
                self._send_accepted(points[start : start + BATCH])
            self._advance(name, lines[-1][1])

    def _send_accepted(self, points: list[Point]) -> None:
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
                if newest[_identity(record)] == offset:
                    self._carry_out(record)
                self._advance(OPERATIONS, offset)

    def _carry_out(self, operation: Operation) -> None:
        path = operation.get("path") or operation.get("folder")
        if path:  # a large upload is no standstill
            self._report("upload", bytes=_size(self.run_dir / path))
        try:
            self._target.send_operation(operation, self.cursor)
        except RefusedError as error:
            self._report("refused", what=operation["op"], error=str(error))


def _size(path: Path) -> int:
    """Bytes of a file, or of a folder's files."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def _identity(operation: Operation) -> str:
    """What a later operation replaces: the same file again, or nothing but itself."""
    if operation["op"] == "artifact":
        return f"artifact {operation['path']} {operation['folder']}"
    return f"{operation['op']} {operation.get('time_ms')} {operation}"

from __future__ import annotations

from typing import Any

from pipeline.tracking.journals import MetricPoint
from pipeline.tracking.sender import Operation, RefusedError, SendCursor


class FakeServer:
    """Keeps what arrives; can be down, lose its answers, or refuse a key."""

    def __init__(self) -> None:
        self.points: list[MetricPoint] = []
        self.operations: list[Operation] = []
        self.statuses: list[str] = []
        self.runs = 0
        self.is_down = False
        self.fail_after: int | None = None  # calls that still work
        self.refused: set[str] = set()

    def _answer(self) -> None:
        if self.fail_after is not None:
            self.fail_after -= 1
            self.is_down = self.fail_after < 0
        if self.is_down:
            raise ConnectionError("http://user:pw@host refused the connection")

    def open_run(self, cursor: SendCursor) -> None:
        self._answer()
        if cursor.run_id is None:
            self.runs += 1
            cursor.run_id = f"run{self.runs}"

    def send_points(self, points: list[MetricPoint]) -> None:
        self._answer()
        if self.refused & {point.key for point in points}:
            raise RefusedError("bad key")
        self.points += points

    def send_operation(self, operation: Operation, cursor: SendCursor) -> None:
        self._answer()
        self.operations.append(operation)

    def set_status(self, status: str, time_ms: int) -> None:
        self._answer()
        self.statuses.append(status)


class Reports(list[tuple[str, dict[str, Any]]]):
    def __call__(self, event: str, **details: Any) -> None:
        self.append((event, details))

    def names(self) -> list[str]:
        return [event for event, _ in self]

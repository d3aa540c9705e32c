"""The journal of metrics: one line per call, no point twice."""

from __future__ import annotations

import json
import math
import time
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.tracking.lines import LineFile, read_lines


class Point(NamedTuple):
    """One value of one metric; ``time_ms`` since 1970."""

    key: str
    value: float
    step: int
    time_ms: int


class PointJournal:
    """Appends metrics to a JSON-lines file, each (key, step) once, also across resumes.

    A run that was killed and resumed repeats the steps after its checkpoint. The repeated
    points are equal, because a resume is exact, so the first ones stay.

    Args:
        path: the file; what it already holds is kept.
    """

    def __init__(self, path: Path) -> None:
        self._lines = LineFile(path)
        self._steps: dict[str, array[int]] = {}  # sorted; 8 bytes a point
        for point in read_points(path):
            self._is_new(point.key, point.step)

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        """Write the metrics that have no point at this step yet."""
        # written by hand: the training thread waits for it, and json takes three times as long
        new = [
            f"{_quoted(key)}:{_number(float(value))}"
            for key, value in metrics.items()
            if self._is_new(key, step)
        ]
        if new:
            now = time.time_ns() // 1_000_000
            points = ",".join(new)
            self._lines.append_text(f'{{"step":{step},"time_ms":{now},"metrics":{{{points}}}}}')

    def _is_new(self, key: str, step: int) -> bool:
        steps = self._steps.get(key)
        if steps is None:
            self._steps[key] = array("q", [step])
            return True
        if step > steps[-1]:
            steps.append(step)
            return True
        position = bisect_left(steps, step)
        if steps[position] == step:
            return False
        steps.insert(position, step)
        return True

    @property
    def point_count(self) -> int:
        """Number of points in the file."""
        return sum(map(len, self._steps.values()))

    @property
    def last_step(self) -> int:
        """Highest step of any metric; -1 when there is none."""
        return max((steps[-1] for steps in self._steps.values()), default=-1)

    def sync(self) -> None:
        """Force everything onto the disk."""
        self._lines.sync()

    def close(self) -> None:
        """Close the file."""
        self._lines.close()


_quoted = lru_cache(maxsize=100_000)(json.dumps)


def _number(value: float) -> str:
    return repr(value) if math.isfinite(value) else f'"{value}"'


def encode(value: float) -> float | str:
    """Give a number as strict JSON can hold it: 'nan', 'inf' and '-inf' are strings."""
    return value if math.isfinite(value) else str(value)


def points_of(record: Mapping[str, Any]) -> list[Point]:
    """Split one line into its points."""
    step, time_ms = record["step"], record["time_ms"]
    return [Point(key, float(value), step, time_ms) for key, value in record["metrics"].items()]


def read_points(path: Path) -> Iterator[Point]:
    """Yield every point of a journal, in the order of writing.

    Args:
        path: a run folder's metrics.jsonl; may be missing or end in a torn line.
    """
    for record, _ in read_lines(path):
        yield from points_of(record)

"""The journals of a run: JSON lines of metrics and operations that survive a kill."""

from __future__ import annotations

import json
import logging
import math
import os
import threading
import time
import uuid
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.configuration.schema import dotted_items
from pipeline.tracking.redact import redact, redact_text
from pollinate.errors import PollinateError
from pollinate.files import open_own
from pollinate.foreign import parse_json
from pollinate.printable import printable

logger = logging.getLogger(__name__)


class JsonLinesFile:
    """Appends records to a file, each handed to the operating system at once; thread-safe.

    A kill can only cut the last line; opening the file again removes such a rest. A write
    that fails (full disk) is reported once and never raised: training goes on.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._failed = False
        self._torn = False
        remove_torn_line(path)
        try:
            self._file = open_own(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        except OSError as error:
            raise PollinateError(f"{path} can't be written: {error.strerror}") from error

    def append(self, record: Mapping[str, Any]) -> None:
        """Add one record; its numbers must be finite."""
        self.append_text(json.dumps(record, allow_nan=False, separators=(",", ":")))

    def append_text(self, record: str) -> None:
        """Add one record that is JSON without line breaks already."""
        with self._lock:
            try:
                self._write(record.encode() + b"\n")
            except OSError as error:
                self._report(error)

    def _write(self, line: bytes) -> None:
        # the rest of a failed write must not run into this line
        data = b"\n" + line if self._torn else line
        written = os.write(self._file, data)
        self._torn = written != len(data)
        if self._torn:
            raise OSError(f"only {written} of {len(data)} bytes were written")

    def _report(self, error: OSError) -> None:
        if not self._failed:
            logger.warning("cannot write %s: %s; the run's history has a gap", self.path, error)
        self._failed = True

    def sync(self) -> None:
        with self._lock:
            try:
                os.fsync(self._file)
            except OSError as error:
                self._report(error)

    def close(self) -> None:
        """Close the file; append must not be called afterwards."""
        os.close(self._file)


def remove_torn_line(path: Path) -> None:
    """Cut what follows the last line break, if anything does."""
    if path.is_symlink() or not path.is_file():
        return
    with os.fdopen(open_own(path, os.O_RDWR), "r+b") as file:
        end = file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - 65536)
            file.seek(start)
            position = file.read(end - start).rfind(b"\n")
            if position >= 0:
                file.truncate(start + position + 1)
                return
            end = start
        file.truncate(0)


def read_lines(path: Path, offset: int = 0) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield (record, offset behind it) from a byte offset on; a torn last line is left for later.

    Lines that are not JSON objects, the rest of a failed write, are skipped.
    """
    if not path.is_file():
        return
    with path.open("rb") as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                return
            offset += len(line)
            record = _parse(line)
            if record is not None:
                yield record, offset


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        record = parse_json(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


class MetricPoint(NamedTuple):
    """One value of one metric; ``time_ms`` since 1970."""

    key: str
    value: float
    step: int
    time_ms: int


class MetricJournal:
    """Appends metrics to a JSON-lines file, each (key, step) once, also across resumes.

    A run that was killed and resumed repeats the steps after its checkpoint. The repeated
    points are equal, because a resume is exact, so the first ones stay.

    Args:
        path: the file; what it already holds is kept.
    """

    def __init__(self, path: Path) -> None:
        self._lines = JsonLinesFile(path)
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
        return sum(map(len, self._steps.values()))

    @property
    def last_step(self) -> int:
        """Highest step of any metric; -1 when there is none."""
        return max((steps[-1] for steps in self._steps.values()), default=-1)

    def sync(self) -> None:
        self._lines.sync()

    def close(self) -> None:
        self._lines.close()


_quoted = lru_cache(maxsize=100_000)(json.dumps)


def _number(value: float) -> str:
    return repr(value) if math.isfinite(value) else f'"{value}"'


NOT_FINITE = ("nan", "inf", "-inf")  # how a line has them, as JSON can't


def encode_number(value: float) -> float | str:
    """Give a number as strict JSON can hold it: 'nan', 'inf' and '-inf' are strings."""
    return value if math.isfinite(value) else str(value)


def points_of(record: Mapping[str, Any]) -> list[MetricPoint]:
    """Split one line into its points."""
    step, time_ms = record["step"], record["time_ms"]
    return [
        MetricPoint(key, float(value), step, time_ms)
        for key, value in record["metrics"].items()
        if isinstance(value, int | float) or value in NOT_FINITE
    ]


def read_records(path: Path, offset: int = 0) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield a journal's (operation or points, offset behind it); see ``read_lines``.

    A line without what its operation needs is skipped, as one that is no JSON is.
    """
    for record, end in read_lines(path, offset):
        needs = NEEDS.get(record["op"], {}) if "op" in record and _is_name(record["op"]) else POINTS
        if all(isinstance(record.get(name), kind) for name, kind in needs.items()):
            yield record, end


def _is_name(value: object) -> bool:
    return isinstance(value, str)


# what a line must have: points, or an operation of a name
POINTS: dict[str, Any] = {"step": int, "time_ms": int, "metrics": dict}
NEEDS: dict[str, dict[str, Any]] = {
    "start": {"time_ms": int, "key": str},
    "params": {"params": dict},
    "tags": {"tags": dict},
    "dataset": {"name": str, "digest": str, "source": str, "rows": dict},
    "artifact": {"path": str, "folder": str},
    "model": {"folder": str, "name": str, "key": str, "step": int},
    "status": {"time_ms": int, "status": str},
}


def read_points(path: Path) -> Iterator[MetricPoint]:
    """Yield every point of a journal, in the order of writing.

    Args:
        path: a run folder's metrics.jsonl; may be missing or end in a torn line.
    """
    for record, _ in read_records(path):
        if "op" not in record:
            yield from points_of(record)


class OperationJournal:
    """Appends operations to a JSON-lines file; what a resume repeats unchanged is left out.

    Attributes:
        key: name of the run, unique, made when it first started.
        start_ms: time of the first start, milliseconds since 1970.
    """

    def __init__(self, path: Path) -> None:
        self._lines = JsonLinesFile(path)
        self._params: dict[str, str] = {}
        self._tags: dict[str, str] = {}
        self._once: set[str] = set()
        self.key = uuid.uuid4().hex
        self.start_ms = _now()
        starts = [record for record, _ in read_records(path) if self._remember(record)]
        if starts:
            self.key, self.start_ms = starts[-1]["key"], starts[0]["time_ms"]

    def _remember(self, record: Mapping[str, Any]) -> bool:
        """Take over an earlier session's record; tell whether it is a start."""
        match record.get("op"):
            case "params":
                self._params |= record["params"]
            case "tags":
                self._tags |= record["tags"]
            case "dataset":
                self._once.add(_content(record))
        return bool(record.get("op") == "start")

    def start(self, name: str, destination: Mapping[str, str | None]) -> None:
        """Begin a session of the run; the server shows it as running again."""
        self.add("start", key=self.key, name=name, **destination)

    def rename(self) -> None:
        """Make it another run's: a server will know nothing of it."""
        self.key, self._tags = uuid.uuid4().hex, {}

    def add(self, operation: str, **details: Any) -> None:
        self._lines.append({"op": operation, "time_ms": _now(), **details})

    def add_once(self, operation: str, **details: Any) -> None:
        """Append one operation, unless the journal has it with the same details."""
        content = _content({"op": operation, **details})
        if content not in self._once:
            self._once.add(content)
            self.add(operation, **details)

    def params(self, params: Mapping[str, Any]) -> None:
        """Append settings. MLflow never changes one: a resume's new value becomes a tag."""
        flat = {key: _text(value) for key, value in dotted_items(redact(params))}
        new = {key: value for key, value in flat.items() if key not in self._params}
        changed = {k: v for k, v in flat.items() if self._params.get(k, v) != v}
        if new:
            self._params |= new
            self.add("params", params=new)
        if changed:
            self.tags({f"resumed.{key}": value for key, value in changed.items()})

    def tags(self, tags: Mapping[str, Any]) -> None:
        texts = {key: _text(value) for key, value in redact(tags).items()}
        new = {key: value for key, value in texts.items() if self._tags.get(key) != value}
        if new:
            self._tags |= new
            self.add("tags", tags=new)

    def sync(self) -> None:
        self._lines.sync()

    def close(self) -> None:
        self._lines.close()


RUN_DIR_TAG = "pollinate.run_dir"


def original_of(run_dir: Path, name: str) -> Path | None:
    """Return the run folder that another one was copied from, None if it is no copy.

    Args:
        run_dir: the folder; one that was moved is itself.
        name: of its journal of operations.
    """
    key, place = _key_and_place(run_dir / name)
    if key is None or place is None or not place.is_dir() or place.samefile(run_dir):
        return None
    return place if _key_and_place(place / name)[0] == key else None


def _key_and_place(journal: Path) -> tuple[str | None, Path | None]:
    """Return a run's key, and where its folder was when it was at work last."""
    key, place = None, None
    for record, _ in read_records(journal):
        if record["op"] == "start":
            key = record["key"]
        elif record["op"] == "tags" and RUN_DIR_TAG in record["tags"]:
            place = Path(record["tags"][RUN_DIR_TAG])
    return key, place


def has_ended(path: Path) -> bool:
    """Whether a journal says how the run's last session ended; one that was killed cannot."""
    states = [r["op"] for r, _ in read_records(path) if r.get("op") in ("start", "status")]
    return bool(states) and states[-1] == "status"


def _now() -> int:
    return time.time_ns() // 1_000_000


def _text(value: Any) -> str:
    """Write a value as a config file would: null, true, [1, 2]; text as it is."""
    if isinstance(value, str):
        return printable(redact_text(value))
    return json.dumps(value, default=str)


def _content(record: Mapping[str, Any]) -> str:
    return json.dumps({k: v for k, v in record.items() if k != "time_ms"}, sort_keys=True)

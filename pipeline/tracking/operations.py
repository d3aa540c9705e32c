"""The journal of everything that is no metric: parameters, tags, artifacts, status."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.tracking.lines import LineFile, read_lines
from pipeline.tracking.redact import flatten, redact, redact_text


class OperationJournal:
    """Appends operations to a JSON-lines file; what a resume repeats unchanged is left out.

    Attributes:
        key: name of the run, unique, made when it first started.
        start_ms: time of the first start, milliseconds since 1970.
    """

    def __init__(self, path: Path) -> None:
        self._lines = LineFile(path)
        self._params: dict[str, str] = {}
        self._tags: dict[str, str] = {}
        self._once: set[str] = set()
        self.key = uuid.uuid4().hex
        self.start_ms = _now()
        starts = [record for record, _ in read_lines(path) if self._remember(record)]
        if starts:
            self.key, self.start_ms = starts[0]["key"], starts[0]["time_ms"]

    def _remember(self, record: Mapping[str, Any]) -> bool:
        """Take over an earlier session's record; tell whether it is a start."""
        match record["op"]:
            case "params":
                self._params |= record["params"]
            case "tags":
                self._tags |= record["tags"]
            case "dataset":
                self._once.add(_content(record))
        return bool(record["op"] == "start")

    def start(self, name: str, destination: Mapping[str, str | None]) -> None:
        """Begin a session of the run; the server shows it as running again."""
        self.add("start", key=self.key, name=name, **destination)

    def add(self, operation: str, **details: Any) -> None:
        """Append one operation."""
        self._lines.append({"op": operation, "time_ms": _now(), **details})

    def add_once(self, operation: str, **details: Any) -> None:
        """Append one operation, unless the journal has it with the same details."""
        content = _content({"op": operation, **details})
        if content not in self._once:
            self._once.add(content)
            self.add(operation, **details)

    def params(self, params: Mapping[str, Any]) -> None:
        """Append settings. MLflow never changes one: a resume's new value becomes a tag."""
        flat = {key: _text(value) for key, value in flatten(redact(params)).items()}
        new = {key: value for key, value in flat.items() if key not in self._params}
        changed = {k: v for k, v in flat.items() if self._params.get(k, v) != v}
        if new:
            self._params |= new
            self.add("params", params=new)
        if changed:
            self.tags({f"resumed.{key}": value for key, value in changed.items()})

    def tags(self, tags: Mapping[str, Any]) -> None:
        """Append tags whose value is new."""
        texts = {key: _text(value) for key, value in redact(tags).items()}
        new = {key: value for key, value in texts.items() if self._tags.get(key) != value}
        if new:
            self._tags |= new
            self.add("tags", tags=new)

    def sync(self) -> None:
        """Force everything onto the disk."""
        self._lines.sync()

    def close(self) -> None:
        """Close the file."""
        self._lines.close()


def has_ended(path: Path) -> bool:
    """Whether a journal says how the run's last session ended; one that was killed cannot."""
    states = [r["op"] for r, _ in read_lines(path) if r["op"] in ("start", "status")]
    return bool(states) and states[-1] == "status"


def _now() -> int:
    return time.time_ns() // 1_000_000


def _text(value: Any) -> str:
    """Write a value as a config file would: null, true, [1, 2]; text as it is."""
    if isinstance(value, str):
        return redact_text(value)
    return json.dumps(value, default=str)


def _content(record: Mapping[str, Any]) -> str:
    return json.dumps({k: v for k, v in record.items() if k != "time_ms"}, sort_keys=True)

"""Files of JSON lines that survive a kill at any moment."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)


class LineFile:
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
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

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
        """Force everything onto the disk, as a checkpoint is."""
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
    if not path.exists():
        return
    with path.open("r+b") as file:
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
    if not path.exists():
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
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None

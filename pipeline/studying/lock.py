"""A lock that a trial's process keeps, also when the study that started it is gone."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


class Lock:
    """Held as long as any process has the open file: this one, or one that inherited it.

    It is flock's, so nothing is left behind by a process that is killed.

    Args:
        path: a file of its own, made if missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: int | None = None

    def take(self) -> bool:
        """Take the lock; False if another process has it."""
        if self._file is not None:
            return True
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(file)
            return False
        self._file = file
        return True

    @property
    def number(self) -> int:
        """The file's number, for a process that is to inherit it."""
        assert self._file is not None, "taken before"
        return self._file

    def leave(self) -> None:
        """Close the file here; a process that inherited it keeps the lock."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def is_taken(path: Path) -> bool:
    """Say whether some process has a lock."""
    if not path.exists():
        return False
    lock = Lock(path)
    free = lock.take()
    lock.leave()
    return not free

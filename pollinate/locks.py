"""A lock that a living process holds on a folder; nothing is left of it when the process ends."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from pathlib import Path
from typing import ClassVar

from pollinate.errors import PollinateError


class FolderLock:
    """Held by this process alone: not by workers that it forks, which may outlive it.

    Args:
        folder: exists when the lock is taken.
        name: of the file in it, which stays, and says who held it last.
    """

    _held: ClassVar[set[Path]] = set()  # the system would give a process its own lock twice

    def __init__(self, folder: Path, name: str) -> None:
        self.path = folder.absolute() / name
        self._file: int | None = None

    def acquire(self) -> None:
        """Take the lock; a second call does nothing.

        Raises:
            PollinateError: a living process has it.
        """
        if self._file is not None:
            return
        if self.path in self._held:
            raise self._refusal(f"{os.getpid()} on {socket.gethostname()}")
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        file = os.open(self.path, flags, 0o644)
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(file, 1000).decode(errors="replace").strip()
            if error.errno in (errno.EACCES, errno.EAGAIN):
                os.close(file)
                raise self._refusal(holder) from error
            # a file system without locks: nothing can be told apart there
        os.ftruncate(file, 0)
        os.pwrite(file, f"{os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        self._file = file
        self._held.add(self.path)

    def _refusal(self, holder: str) -> PollinateError:
        return PollinateError(
            f"{self.path.parent} is in use by process {holder}; wait until it ends, or stop it"
        )

    def release(self) -> None:
        """Give the lock back; nothing happens if it isn't held."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
            self._held.discard(self.path)

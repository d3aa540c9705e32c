"""Ordinary files: a named pipe would be waited for without end, and a device has no end."""

from __future__ import annotations

import stat
from pathlib import Path

from pollinate.errors import PollinateError

KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def require_regular(path: Path) -> Path:
    """Return a path if an ordinary file is there; links are followed.

    Raises:
        PollinateError: there is nothing, or something else, which the message names.
    """
    found = file_kind(path)
    if found is None:
        raise PollinateError(f"there is no file {path}")
    if found:
        raise PollinateError(f"{path} must be an ordinary file, it is {found}")
    return path


def file_kind(path: Path) -> str | None:
    """Return what a path leads to, for people: empty for an ordinary file, None for nothing."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:  # ValueError: a zero byte
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise PollinateError(f"{path} can't be read: {reason}") from error
    return "" if stat.S_ISREG(mode) else KINDS.get(stat.S_IFMT(mode), "something else")

"""Sees what the interpreter opens, imports, starts and connects to, by its audit events."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
# where a program reads from whatever it was given: itself, its packages, the system's facts
OWN = tuple(
    os.path.realpath(place)
    for place in (ROOT, sys.prefix, sys.base_prefix, "/proc", "/sys", "/dev", "/usr", "/etc")
)
BYTECODE = "__pycache__"
STARTS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.startfile", "pty.spawn")
CONNECTS = ("socket.connect", "socket.getaddrinfo", "socket.sendto", "webbrowser.open")
CHANGES = ("os.remove", "os.rename", "os.link", "os.symlink", "os.rmdir", "os.mkdir", "os.chmod")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Watch:
    """Notes what lies outside.

    Args:
        inside: folder that may be read and written.
        strangers: top-level modules that must not be imported.
    """

    def __init__(self, inside: Path, strangers: tuple[str, ...]) -> None:
        self.inside = os.path.realpath(inside)
        self.strangers = strangers
        self.seen: list[str] = []

    def look(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(args[0], str | bytes | os.PathLike):
            writes = isinstance(args[2], int) and bool(args[2] & WRITING)
            self._file(event, args[0], writes)
        elif event in CHANGES:
            self._file(event, args[0], writes=True)
        elif event in STARTS or event in CONNECTS:
            self.seen.append(f"{event} {args!r:.200}")
        elif event == "exec":  # of an imported module, too, however it was asked for
            file = str(getattr(args[0], "co_filename", ""))
            if file.startswith("/") and os.path.realpath(file).startswith(f"{self.inside}/"):
                self.seen.append(f"exec {file}")
        elif event == "import" and str(args[0]).partition(".")[0] in self.strangers:
            self.seen.append(f"import {args[0]}")
        elif event == "pickle.find_class" and str(args[0]).partition(".")[0] in self.strangers:
            self.seen.append(f"unpickled {args!r}")

    def _file(self, event: str, name: Any, writes: bool) -> None:
        path = os.path.realpath(os.fsdecode(name))
        compiled = BYTECODE in path.split("/")  # which the interpreter writes beside its own files
        places = (self.inside, *OWN) if compiled or not writes else (self.inside, "/dev/null")
        if not any(path == place or path.startswith(f"{place}/") for place in places):
            self.seen.append(f"{event} {path}{' to write' if writes else ''}")


_active: list[Watch] = []
_installed: list[bool] = []


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if _active:
        watch = _active.pop()  # what looking itself does isn't looked at
        try:
            watch.look(event, args)
        finally:
            _active.append(watch)


@contextmanager
def watched(inside: Path, strangers: tuple[str, ...] = ("theirs",)) -> Iterator[Watch]:
    """Note what happens inside the block; a hook can't be taken away, so it is put up once."""
    if not _installed:
        sys.addaudithook(_hook)
        _installed.append(True)
    watch = Watch(inside, strangers)
    _active.append(watch)
    try:
        yield watch
    finally:
        _active.remove(watch)

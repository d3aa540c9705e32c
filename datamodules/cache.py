"""Results on disk that take long to compute, with checksums that reveal damage."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any
from zlib import crc32

from filelock import FileLock

from pollinate.errors import PollinateError

DONE = "complete"  # the file of checksums, written last
KEPT_DAYS = 30  # an entry that nobody used for so long is thrown away
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS)


class Cache:
    """Folders by what they were made from; several processes share it.

    Attributes:
        notes: which results were damaged and made again, for people.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.notes: list[str] = []

    def find(self, kind: str, key: Any) -> Path | None:
        """Return the folder of a whole result, None if there is none; see ``get``."""
        entry = self._entry(kind, key)
        return None if damage(entry) else entry

    def get(
        self,
        kind: str,
        key: Any,
        make: Callable[[Path], None],
        say: Callable[[str], None] | None = None,
    ) -> Path:
        """Return the folder of a result, made now if it isn't there, or isn't as it was made.

        Args:
            kind: what it is, part of its path.
            key: plain values that the result depends on, and on nothing else.
            make: fills an empty folder; whatever it raises leaves nothing behind.
            say: tells the user of a result that was damaged; None: it is added to ``notes``.

        Raises:
            PollinateError: there is no room, or the folder can't be written.
        """
        entry = self._entry(kind, key)
        try:
            entry.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:  # a file is in its place, say
            raise self._unwritable(error) from error
        try:
            with FileLock(entry.with_suffix(".lock")):
                wrong = damage(entry)
                if wrong:
                    self._fill(entry, make)
                    if wrong != MISSING:
                        note = f"{entry} in the cache was damaged ({wrong}) and was made again"
                        self.notes.append(note) if say is None else say(f"note: {note}")
                (entry / DONE).touch()
        except OSError as error:
            if error.errno in UNWRITABLE:
                raise self._unwritable(error) from error
            raise
        return entry

    def _unwritable(self, error: OSError) -> PollinateError:
        return PollinateError(
            f"the cache {self.folder} can't be written: {error.strerror}; choose another place: "
            "data.cache=PATH"
        )

    def _entry(self, kind: str, key: Any) -> Path:
        name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:24]
        return self.folder / kind / name

    def _fill(self, entry: Path, make: Callable[[Path], None]) -> None:
        self._prune()
        temporary = entry.with_suffix(".tmp")
        for left in (temporary, entry):
            shutil.rmtree(left, ignore_errors=True)
        temporary.mkdir()
        try:
            make(temporary)
            write_checksums(temporary)
            temporary.replace(entry)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _prune(self) -> None:
        oldest = time.time() - KEPT_DAYS * 86_400
        for done in self.folder.glob(f"*/*/{DONE}"):
            if done.stat().st_mtime < oldest:
                shutil.rmtree(done.parent, ignore_errors=True)


def default_cache() -> Path:
    """Return the user's cache folder: ``$XDG_CACHE_HOME/pollinate``, ~/.cache/pollinate."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "pollinate"


def file_stamp(path: Path) -> list[Any]:
    """Return what changes when a file changes: its path, and see ``stamp``."""
    return [str(path.absolute()), *stamp(path)]


def stamp(path: Path) -> list[int]:
    """Return what changes when a file is written or replaced: bytes, times, place on the disk.

    The time of the last write can be set, as tools that copy do; that of the last change can't.
    """
    found = path.stat()
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})
SAMPLED = 1 << 20  # bytes at each end of a large file that its digest looks at
WHOLE = 1 << 32  # bytes up to which a file is looked at as a whole


def content_digest(files: Sequence[Path], options: Mapping[str, Any] = NO_OPTIONS) -> str:
    """Return a fingerprint of files' contents and how they are read: 12 hexadecimal digits.

    Of a file above ``WHOLE`` only its size and both ends are looked at.
    """
    state = hashlib.sha256(json.dumps(dict(options), sort_keys=True).encode())
    for file in files:
        size = file.stat().st_size
        state.update(f"{size}\n".encode())
        with file.open("rb") as opened:
            if size <= WHOLE:
                while block := opened.read(SAMPLED):
                    state.update(block)
            else:
                state.update(opened.read(SAMPLED))
                opened.seek(-SAMPLED, 2)
                state.update(opened.read(SAMPLED))
    return state.hexdigest()[:12]


CHUNK = 1 << 22  # bytes read at a time
MISSING = "it is not there"


def write_checksums(folder: Path) -> None:
    """Write the length, the CRC-32 and the stamp of every file, in a file of its own."""
    files = [path for path in sorted(folder.iterdir()) if path.name != DONE]
    known = {path.name: [*size_and_crc(path), stamp(path)] for path in files}
    fresh = folder / f"{DONE}.{os.getpid()}"
    fresh.write_text(json.dumps(known), encoding="utf-8")
    fresh.replace(folder / DONE)


def damage(folder: Path) -> str:
    """Say what is wrong with a result, ``MISSING`` if it was never whole; empty if nothing is.

    Files are read only if they were changed, or copied, since their checksums were written.
    """
    try:
        known = json.loads((folder / DONE).read_text(encoding="utf-8"))
        files = {folder / name: found for name, found in known.items()}
        touched = [path for path, found in files.items() if stamp(path) != found[2]]
        for path in touched:
            if size_and_crc(path) != files[path][:2]:
                return f"{path.name} was changed"
        if touched:
            write_checksums(folder)
    except FileNotFoundError as error:
        gone = Path(error.filename).name
        return MISSING if gone == DONE else f"{gone} is gone"
    except (ValueError, TypeError, AttributeError, IndexError, KeyError):
        return MISSING  # of another version, which wrote nothing into the file, or cut
    return ""


def size_and_crc(path: Path) -> list[int]:
    size = value = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            size, value = size + len(chunk), crc32(chunk, value)
    return [size, value]

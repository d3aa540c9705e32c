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

DONE = "complete"
KEPT_DAYS = 30  # an entry that nobody used for so long is thrown away


class Cache:
    """Folders by what they were made from; several processes share it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, kind: str, key: Any, fits: Callable[[Path], bool]) -> Path | None:
        """Return the folder of a whole result that fits, None if there is none; see ``get``."""
        entry = self._entry(kind, key)
        return entry if (entry / DONE).exists() and fits(entry) else None

    def get(
        self,
        kind: str,
        key: Any,
        make: Callable[[Path], None],
        fits: Callable[[Path], bool] = Path.is_dir,
    ) -> Path:
        """Return the folder of a result, made now if it isn't there.

        Args:
            kind: what it is, part of its path.
            key: plain values that the result depends on, and on nothing else.
            make: fills an empty folder; whatever it raises leaves nothing behind.
            fits: says whether a folder is as it was made; else it is made anew.
        """
        entry = self._entry(kind, key)
        try:
            entry.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(entry.with_suffix(".lock")):
                if not ((entry / DONE).exists() and fits(entry)):
                    self._fill(entry, make)
                (entry / DONE).touch()
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
                raise PollinateError(
                    f"the cache {self.folder} can't be written: {error.strerror}; choose another "
                    "place: data.cache=PATH"
                ) from error
            raise
        return entry

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
            (temporary / DONE).touch()
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
    """Return what changes when a file changes: path, bytes, time of the last change."""
    found = path.stat()
    return [str(path.absolute()), found.st_size, found.st_mtime_ns]


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


CHECKSUMS = "seal.json"
CHUNK = 1 << 22  # bytes read at a time


def write_checksums(folder: Path) -> None:
    """Write the length and the CRC-32 of every file."""
    found = {path.name: size_and_crc(path) for path in sorted(folder.iterdir())}
    (folder / CHECKSUMS).write_text(json.dumps(found), encoding="utf-8")


def checksums_match(folder: Path) -> bool:
    """Say whether all files that were sealed are there, with the content that they had."""
    try:
        known = json.loads((folder / CHECKSUMS).read_text(encoding="utf-8"))
        return all(size_and_crc(folder / name) == content for name, content in known.items())
    except (OSError, ValueError):
        return False


def size_and_crc(path: Path) -> list[int]:
    size = value = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            size, value = size + len(chunk), crc32(chunk, value)
    return [size, value]

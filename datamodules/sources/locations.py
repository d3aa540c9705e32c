"""Which files a source reads."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from glob import glob, has_magic
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pipeline.errors import PollinateError

Paths = str | Sequence[str] | Mapping[str, str | Sequence[str]]
NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})
SAMPLED = 1 << 20  # bytes at each end of a large file that its digest looks at
WHOLE = 1 << 32  # bytes up to which a file is looked at as a whole


def find_files(path: Paths) -> list[tuple[str, Path]]:
    """Return (split or "", file or folder) in order.

    Args:
        path: a path, a pattern such as ``part-*.csv``, a list of them, or {split: either}.

    Raises:
        PollinateError: nothing is there.
    """
    if isinstance(path, Mapping):
        return [(split, file) for split, own in path.items() for _, file in find_files(own)]
    if isinstance(path, str):
        return [("", file) for file in matching(path)]
    return [("", file) for one in path for file in matching(one)]


def matching(pattern: str) -> list[Path]:
    """Return what a path or pattern names, sorted."""
    path = Path(pattern).expanduser()
    if path.exists():
        return [path]
    found = sorted(Path(one) for one in glob(str(path), recursive=True))  # noqa: PTH207  # the pattern may be absolute
    if found:
        return found
    if has_magic(pattern):
        raise PollinateError(f"no file matches {pattern}; check path")
    raise PollinateError(f"there is no file {path}{nearest(path)}")


def nearest(path: Path) -> str:
    """Say what lies nearest to a path that leads nowhere."""
    folder = path.parent
    if not folder.is_dir():
        existing = next(parent for parent in path.parents if parent.is_dir())
        return f"; the folder {existing} is there, {folder} is not"
    names = sorted(one.name for one in folder.iterdir() if not one.name.startswith("."))
    close = get_close_matches(path.name, names, n=1)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; {folder} has {', '.join(names[:8]) or 'nothing'}{' ...' if len(names) > 8 else ''}"


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

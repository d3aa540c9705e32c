"""Checksums of a folder's files, by which damage is noticed."""

from __future__ import annotations

import json
from pathlib import Path
from zlib import crc32

NAME = "seal.json"
CHUNK = 1 << 22  # bytes read at a time


def seal(folder: Path) -> None:
    """Write the length and the CRC-32 of every file."""
    found = {path.name: measure(path) for path in sorted(folder.iterdir())}
    (folder / NAME).write_text(json.dumps(found), encoding="utf-8")


def is_intact(folder: Path) -> bool:
    """Say whether all files that were sealed are there, with the content that they had."""
    try:
        known = json.loads((folder / NAME).read_text(encoding="utf-8"))
        return all(measure(folder / name) == content for name, content in known.items())
    except (OSError, ValueError):
        return False


def measure(path: Path) -> list[int]:
    """Return a file's bytes and their CRC-32."""
    size = value = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            size, value = size + len(chunk), crc32(chunk, value)
    return [size, value]

"""Pictures and recordings as cells name them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from pipeline.errors import PollinateError


@dataclass(frozen=True)
class Unreadable:
    """A cell that can't be used, and why."""

    reason: str


def locate(cell: Any, folder: Path | None) -> Any:
    """Return a picture's or recording's content, path or array; None for an empty cell.

    Args:
        cell: content; path; array; or {bytes, path}, as Hugging Face's data sets have them.
        folder: a path is relative to it, and stays below it; None: there can be no paths.

    Raises:
        PollinateError: it is something else, or a path that leads out of the folder.
    """
    if isinstance(cell, dict) and ("bytes" in cell or "path" in cell):
        cell = cell.get("bytes") or cell.get("path")
    if not isinstance(cell, str):
        return cell
    if not cell.strip():
        return None
    if folder is None or "\0" in cell:
        raise PollinateError(f"must be a file's content or its path, got {cell!r:.40}")
    path = without_links(folder / cell)
    if not path.is_relative_to(resolved(folder)):
        raise PollinateError(f"the path must stay below {folder}, got {cell}; move the file there")
    return path


def without_links(path: Path) -> Path:
    """Return what ``os.path.realpath`` does, which looks at every folder on the way each time."""
    direct = resolved(path.parent) / path.name
    return Path(os.path.realpath(path)) if path.name == ".." or direct.is_symlink() else direct


@lru_cache(maxsize=4096)
def resolved(folder: Path) -> Path:
    """Return a folder without links; asked for once a folder, not once a cell."""
    return folder.resolve()


def located(cell: Any, folder: Path | None) -> Any:
    """Return what ``locate`` does, an ``Unreadable`` where it raises."""
    try:
        return locate(cell, folder)
    except PollinateError as error:
        outside = isinstance(cell, str) and folder is not None
        return Unreadable(f"{error}, or set the source's folder" if outside else str(error))

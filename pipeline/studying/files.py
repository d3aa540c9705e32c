"""Files that are whole or absent, whoever reads them meanwhile."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from pipeline.errors import PollinateError


def write_text(path: Path, text: str) -> None:
    """Write a text file, and survive a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def write_json(path: Path, content: Any) -> None:
    """Write plain values."""
    write_text(path, json.dumps(content, indent=1) + "\n")


def read_json(path: Path) -> Any:
    """Return what a file holds, None if there is none.

    Raises:
        PollinateError: it is damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise PollinateError(
            f"{path} can't be read: {error}; restore it, or remove it with what belongs to it, and "
            "start again"
        ) from error

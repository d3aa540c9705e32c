"""Chooses the reader of an input by its name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from datamodules.files.base import RowFile
from datamodules.files.csv_file import Csv
from datamodules.files.json_file import JsonLines
from datamodules.files.media_files import IMAGES, SOUNDS, MediaFiles
from datamodules.files.parquet_file import Parquet
from datamodules.files.text_file import TextFile
from pipeline.errors import PollinateError, UsageError

READERS: dict[str, Callable[[Path], RowFile]] = {
    ".csv": partial(Csv, delimiter=","),
    ".tsv": partial(Csv, delimiter="\t"),
    ".jsonl": JsonLines,
    ".parquet": Parquet,
    ".txt": TextFile,
    **dict.fromkeys(sorted(IMAGES | SOUNDS), MediaFiles),
}


def open_input(path: Path) -> RowFile:
    """Return the rows of a table, of a picture or sound, or of a folder of them.

    Raises:
        UsageError: no format has such a name.
        PollinateError: nothing is there, it can't be read, or it has no rows.
    """
    if path.is_dir():
        return MediaFiles(path)
    if not path.is_file():
        raise PollinateError(f"input {path} must be a file or folder; nothing is there")
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise UsageError(
            f"input must be a folder or end in {', '.join(READERS)}, got {path.name}; "
            "rename or convert it"
        )
    try:
        found = reader(path)
        found.require_rows()
        return found
    except OSError as error:
        raise PollinateError(f"input {path} can't be read: {error.strerror}") from error

"""Chooses the reader of an input by its name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from pipeline.errors import PollinateError, UsageError
from pipeline.prediction.csv_input import Csv
from pipeline.prediction.inputs import IMAGES, Images, Input, JsonLines, Parquet, TextLines

READERS: dict[str, Callable[[Path], Input]] = {
    ".csv": partial(Csv, delimiter=","),
    ".tsv": partial(Csv, delimiter="\t"),
    ".jsonl": JsonLines,
    ".parquet": Parquet,
    ".txt": TextLines,
    **dict.fromkeys(sorted(IMAGES), Images),
}


def open_input(path: Path) -> Input:
    """Return the rows of a file, or of a folder of images.

    Raises:
        UsageError: no format has such a name.
        PollinateError: nothing is there, it can't be read, or it has no rows.
    """
    if path.is_dir():
        return Images(path)
    if not path.is_file():
        raise PollinateError(f"input {path} must be a file or folder; nothing is there")
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise UsageError(
            f"input must be a folder or end in {', '.join(READERS)}, got {path.name}; "
            "rename or convert it"
        )
    try:
        return reader(path)
    except OSError as error:
        raise PollinateError(f"input {path} can't be read: {error.strerror}") from error

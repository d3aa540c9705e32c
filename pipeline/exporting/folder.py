"""A folder that is written whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import PollinateError, UsageError


def check_folder(folder: Path, overwrite: bool) -> None:
    """Check that nothing would be overwritten unasked.

    Raises:
        UsageError: there is a file, or a folder that holds some.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"output must be a folder, got the file {folder}; choose another")
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise UsageError(
            f"output must be a new or empty folder, got {folder}, which holds files; choose "
            "another, or write over them: overwrite=true"
        )


@contextmanager
def filled(folder: Path) -> Iterator[Path]:
    """Give a folder to fill; its files come to their place, over older ones, when all are whole.

    Raises:
        PollinateError: it can't be written to.
    """
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        partial.mkdir(parents=True)
        yield partial
        folder.mkdir(exist_ok=True)
        for file in partial.iterdir():
            file.replace(folder / file.name)
    except OSError as error:
        raise PollinateError(
            f"output {folder} can't be written: {error.strerror or error}; choose another"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)

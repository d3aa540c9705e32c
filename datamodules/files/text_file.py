"""Text files, one text a line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType

from datamodules.files.base import Row, RowFile, text_lines


class TextFile(RowFile):
    """A text file, one text a line: the column ``text``."""

    known = MappingProxyType({"text": "text"})

    def __init__(self, path: Path) -> None:
        self.path = path
        self.columns = ["text"]

    def rows(self) -> Iterator[Row]:
        """Yield the lines."""
        for number, line in enumerate(text_lines(self.path), start=1):
            yield Row({"text": line.rstrip("\r\n")}, line=number)

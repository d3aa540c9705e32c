"""JSON files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datamodules.files.base import RowFile
from datamodules.files.json_file import open_json
from datamodules.sources.delimited import known_encoding
from datamodules.sources.file_source import FileSource


class Json(FileSource):
    """One object a line (.jsonl), or a list of objects.

    Args:
        path: a file, a pattern, a list of them, or {split: either}.
        encoding: of the files.
        folder: where relative paths of pictures and recordings begin; default: the file's folder.
        empty: texts that stand for an empty cell, besides null and the empty text.
    """

    def __init__(
        self,
        path: str | Sequence[str] | Mapping[str, Any],
        encoding: str = "utf-8",
        folder: str | None = None,
        empty: Sequence[str] = (),
    ) -> None:
        super().__init__(path, folder, empty)
        self.encoding = known_encoding(encoding)

    def open(self, path: Path) -> RowFile:
        """Return the reader of a file."""
        return open_json(path, self.encoding)

    def schema(self, files: Sequence[RowFile]) -> Any:
        """Return the narrowest type for each key that any object has."""
        from datamodules.sources.arrow_table import rows_of
        from datamodules.sources.kinds import schema_of

        return schema_of(rows_of(files))

    def options(self) -> dict[str, Any]:
        """Return what, besides the files, the rows depend on."""
        return {**super().options(), "encoding": self.encoding}

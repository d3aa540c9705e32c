"""Sources that read files row by row."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datamodules.cache import Cache, stamp
from datamodules.files.base import RowFile
from datamodules.sources.base import Source
from datamodules.sources.locations import find_files
from datamodules.table import Table
from pipeline.errors import PollinateError

OURS, HAS = ("__file__", "__line__"), "__has__"  # columns of our own in the cache
FORMAT = 1  # of what the cache holds; raised when older entries can't be read


class FileSource(Source):
    """Copies the rows into an Arrow file in the cache, once, and maps that into memory.

    Args:
        path: a file, a pattern, a list of them, or {split: either}.
        folder: where relative paths of pictures and recordings begin; default: the file's folder.
        empty: texts that stand for an empty cell, besides the empty text.
    """

    def __init__(
        self,
        path: str | Sequence[str] | Mapping[str, Any],
        folder: str | None = None,
        empty: Sequence[str] = (),
    ) -> None:
        self.path = path
        self.folder = folder
        self.empty = frozenset({"", *empty})
        self.location = str(path)

    @abstractmethod
    def open(self, path: Path) -> RowFile:
        """Return the reader of a file."""

    @abstractmethod
    def schema(self, files: Sequence[RowFile]) -> Any:
        """Return the Arrow schema of the files' columns."""

    def options(self) -> dict[str, Any]:
        """Return what, besides the files, the rows depend on: plain values."""
        return {"empty": sorted(self.empty)}

    def _checked(self, files: Sequence[RowFile]) -> Any:
        schema = self.schema(files)
        require_usable(files[0].path, schema.names)
        return schema

    def load(self, cache: Cache) -> Table:
        """Read every row."""
        # imports of a second that a command without files does not need
        from datamodules.sources.arrow_table import read_table, write_table

        found = self._files()

        def make(folder: Path) -> None:
            files = [(split, self.open(path)) for split, path in found]
            readers = [file for _, file in files]
            write_table(folder, files, self._checked(readers), self.options())

        what = [FORMAT, type(self).__name__, self.options(), [[s, *stamp(p)] for s, p in found]]
        entry = cache.get("tables", what, make)
        table = read_table(entry, self._folder(found))
        require_rows(table, found)
        return table

    def stream(self, cache: Cache, columns: Sequence[str]) -> Table:
        """Index the rows, once; the given columns stay in the files."""
        from datamodules.streaming.index import read_index, write_index

        found = self._files()

        def make(folder: Path) -> None:
            files = [(split, self.open(path)) for split, path in found]
            schema = self._checked([file for _, file in files])
            own = [name for name in columns if name in schema.names]
            write_index(folder, files, schema, own, self.options())

        what = [FORMAT, type(self).__name__, self.options(), [[s, *stamp(p)] for s, p in found]]
        entry = cache.get("streams", [*what, sorted(columns)], make)
        kept = self._folder(found)
        known = self.schema([self.open(path) for _, path in found[:1]]).names
        own = [name for name in columns if name in known]
        table = read_index(entry, kept, self.open, own, self.empty)
        require_rows(table, found)
        return table

    def _files(self) -> list[tuple[str, Path]]:
        found = find_files(self.path)
        for _, path in found:
            if not path.is_file():
                raise PollinateError(
                    f"{path} must be a file, it is a folder; name its files: *.csv"
                )
        return found

    def _folder(self, found: Sequence[tuple[str, Path]]) -> Path:
        return Path(self.folder) if self.folder else found[0][1].parent


def require_rows(table: Table, files: Sequence[tuple[str, Path]]) -> None:
    """Check that there is any row.

    Raises:
        PollinateError: there is none.
    """
    if not len(table):
        names = ", ".join(str(path) for _, path in files[:3])
        if table.bad:
            row, why = next(iter(table.bad.items()))
            count = f"none of its {len(table.bad):,} rows can be read"
            raise PollinateError(f"{names}: {count}, the first: {table.place(row)}: {why}")
        raise PollinateError(f"{names} must have at least one row behind the header, got none")


def require_usable(path: Path, names: Sequence[str]) -> None:
    """Check that columns' names can be kept.

    Raises:
        PollinateError: one is no text, or one of ours.
    """
    for name in names:
        if "\0" in name:
            raise PollinateError(
                f"{path}: the column name {name!r} has a zero byte; if the file is UTF-16, set "
                "encoding: utf-16"
            )
        if name in OURS or name.startswith(HAS):
            raise PollinateError(f"{path}: the column name {name!r} is one of ours; rename it")

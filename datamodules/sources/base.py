"""The source contract, and the base of sources that read files row by row."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from glob import glob, has_magic
from pathlib import Path
from typing import Any, ClassVar

from datamodules.cache import Cache, default_cache, file_stamp
from datamodules.regular_files import require_regular
from datamodules.sources.row_files import RowFile, TableSchema, require_same_columns
from datamodules.table import HAS_PREFIX, ORIGIN_COLUMNS, SourceTable
from pollinate.errors import PollinateError, UsageError
from pollinate.recipes import Buildable


class Source(metaclass=Buildable):
    """Reads one data set.

    Attributes:
        location: where the rows come from, for people: a path, an address, a package's file.

    Examples:
        >>> import pollinate as po
        >>> source = po.sources.Csv("reviews.csv")
        >>> isinstance(source, po.sources.Source), source.location
        (True, 'reviews.csv')
        >>> rows = source.table()
        >>> len(rows), rows.names
        (100, ['review', 'mood', 'stars', 'split'])
    """

    location: str

    @abstractmethod
    def load(self, cache: Cache) -> SourceTable:
        """Read every row; ``cache`` may keep what takes long to make.

        Images are uint8 arrays (n, H, W) or (n, H, W, 3), paths, or contents of files; texts are
        str; labels str, numbers, or lists of them.

        Raises:
            pollinate.errors.PollinateError: the data can't be found or read.
        """

    def load_columns(self, cache: Cache, columns: Collection[str]) -> SourceTable:
        """Read every row; columns that aren't among these may be left out.

        Raises:
            pollinate.errors.PollinateError: as for ``load``; or some of the files lack a column.
        """
        return self.load(cache)

    def reading(self) -> dict[str, Any]:
        """Return how files are read, for those that come later: plain values; empty: unknown.

        ``format``, and what the format has of ``delimiter``, ``quote``, ``encoding`` and ``empty``.
        """
        return {}

    def table(self) -> SourceTable:
        """Read every row, as a run does: what takes long to make is kept in the user's cache."""
        return self.load(Cache(default_cache()))

    def stream(
        self, cache: Cache, columns: Sequence[str], others: Collection[str] | None = None
    ) -> SourceTable:
        """Read every row, but leave the given columns where they are.

        Args:
            cache: as for ``load``.
            columns: that stay in their files.
            others: that are read; None: all others.

        Raises:
            UsageError: the source can't.
        """
        raise UsageError(
            f"{self.location} can't be streamed; streaming is for sources csv, tsv, json and "
            "parquet. Others are mapped into memory without a copy, or small: leave streaming out"
        )


Paths = str | Sequence[str] | Mapping[str, str | Sequence[str]]


def find_files(path: Paths) -> list[tuple[str, Path]]:
    """Return (split or "", file or folder) in order.

    Args:
        path: a path, a pattern such as ``part-*.csv``, a list of them, or {split: either}.
    """
    if isinstance(path, Mapping):
        return [(split, file) for split, own in path.items() for _, file in find_files(own)]
    if isinstance(path, str):
        return [("", file) for file in matching_paths(path)]
    return [("", file) for one in path for file in matching_paths(one)]


def matching_paths(pattern: str) -> list[Path]:
    """Return the files and folders that a pattern names, sorted.

    Raises:
        PollinateError: there is none, or something else, such as a named pipe.
    """
    path = Path(pattern).expanduser()
    if path.exists():
        return [readable_path(path)]
    found = sorted(Path(one) for one in glob(str(path), recursive=True))  # noqa: PTH207  # the pattern may be absolute
    if found:
        return [readable_path(one) for one in found]
    if has_magic(pattern):
        raise PollinateError(f"no file matches {pattern}; check path")
    raise PollinateError(f"there is no file {path}{nearest_path_hint(path)}")


def readable_path(path: Path) -> Path:
    return path if path.is_dir() else require_regular(path)


def nearest_path_hint(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        existing = next(parent for parent in path.parents if parent.is_dir())
        return f"; the folder {existing} is there, {folder} is not"
    names = sorted(one.name for one in folder.iterdir() if not one.name.startswith("."))
    close = get_close_matches(path.name, names, n=1)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; {folder} has {', '.join(names[:8]) or 'nothing'}{' ...' if len(names) > 8 else ''}"


FORMAT = 2  # of what the cache holds; raised when older entries can't be read


class FileSource(Source):
    r"""Copies the rows into an Arrow file in the cache, once, and maps that into memory.

    Args:
        path: a file, a pattern, a list of them, or {split: either}.
        folder: where relative paths of pictures and recordings begin; default: the file's folder.
        empty: texts that stand for an empty cell, besides the empty text.

    Examples:
        >>> from pathlib import Path
        >>> import pollinate as po
        >>> for month in ("may", "june"):
        ...     _ = Path(f"{month}.csv").write_text("review,mood\ngood tea,glad\nbad soup,n/a\n")
        >>> source = po.sources.Csv(["may.csv", "june.csv"], empty=["n/a"])
        >>> isinstance(source, po.sources.FileSource)
        True
        >>> list(source.table().columns["mood"])
        ['glad', None, 'glad', None]
    """

    format: ClassVar[str] = ""  # that inputs of a later prediction may have, too

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
    def schema(self, files: Sequence[RowFile]) -> TableSchema:
        """Return the types that hold the columns of all files."""

    def options(self) -> dict[str, Any]:
        """Return what, besides the files, the rows depend on: plain values."""
        return {"empty": sorted(self.empty)}

    def reading(self) -> dict[str, Any]:
        """Return the format and the options."""
        return {"format": self.format, **self.options()} if self.format else {}

    def load(self, cache: Cache) -> SourceTable:
        """Read every row, and all columns that can be kept."""
        return self._load(cache, None)

    def load_columns(self, cache: Cache, columns: Collection[str]) -> SourceTable:
        """Read every row, and these columns."""
        return self._load(cache, columns)

    def _load(self, cache: Cache, columns: Collection[str] | None) -> SourceTable:
        # imports of a second that a command without files does not need
        from datamodules.sources.arrow_table import read_table, write_table

        found = self._files()
        entry = self._made("tables", cache, found, write_table, columns)
        return require_rows(read_table(entry, self._folder(found)), found)

    def stream(
        self, cache: Cache, columns: Sequence[str], others: Collection[str] | None = None
    ) -> SourceTable:
        """Index the rows, once; the given columns stay in the files."""
        from datamodules.sources.row_index import read_index, write_index

        found = self._files()
        write = partial(write_index, streamed=columns)
        wanted = None if others is None else {*columns, *others}
        entry = self._made("streams", cache, found, write, wanted, sorted(columns))
        table = read_index(entry, self._folder(found), self.open, self.empty)
        return require_rows(table, found)

    def _made(
        self,
        kind: str,
        cache: Cache,
        found: Sequence[tuple[str, Path]],
        write: Callable[..., None],
        columns: Collection[str] | None,
        *more: Any,
    ) -> Path:
        """Return the folder of what was made of the files, of these columns or of all."""

        def make(folder: Path) -> None:
            files = [(split, self.open(path)) for split, path in found]
            schema = self.schema([file for _, file in files])
            if columns is not None:
                require_same_columns([file for _, file in files], columns)
                schema = schema.only(columns)
            require_usable_names(found[0][1], list(schema.types))
            for _, file in files:
                file.wanted = set(schema.types)
            write(folder, files, schema=schema, options=self.options())

        stamps = [[split, *file_stamp(path)] for split, path in found]
        key = [FORMAT, type(self).__name__, self.options(), stamps, *more]
        if columns is not None and cache.find(kind, key) is None:
            key.append({"columns": sorted(columns)})
        return cache.get(kind, key, make)

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


def require_rows(table: SourceTable, files: Sequence[tuple[str, Path]]) -> SourceTable:
    """Return a table that has a row."""
    if not table.columns and table.unread:
        raise PollinateError("; ".join(f"{name}: {why}" for name, why in table.unread.items()))
    if not len(table):
        names = ", ".join(str(path) for _, path in files[:3])
        if table.bad:
            row, why = next(iter(table.bad.items()))
            count = f"none of its {len(table.bad):,} rows can be read"
            raise PollinateError(f"{names}: {count}, the first: {table.place(row)}: {why}")
        raise PollinateError(f"{names} must have at least one row behind the header, got none")
    return table


def require_usable_names(path: Path, names: Sequence[str]) -> None:
    """Check that columns' names can be kept."""
    for name in names:
        if "\0" in name:
            raise PollinateError(
                f"{path}: the column name {name!r} has a zero byte; if the file is UTF-16, set "
                "encoding: utf-16"
            )
        if name in ORIGIN_COLUMNS or name.startswith(HAS_PREFIX):
            raise PollinateError(f"{path}: the column name {name!r} is one of ours; rename it")

"""Folders of files, a class a folder."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from datamodules.cache import Cache
from datamodules.inputs import resolve_or_unreadable
from datamodules.media_files import IMAGES, SOUNDS, files_below
from datamodules.sources.base import Source, find_files
from datamodules.sources.csv import CsvRows
from datamodules.sources.json import JsonLinesRows
from datamodules.sources.row_files import RowFile
from datamodules.splits import split_name
from datamodules.table import SPLIT_COLUMN, Column, SourceTable, columns_digest
from pollinate.errors import PollinateError

FILE_NAME = "file_name"  # the column of a metadata file that names the row's file
METADATA: dict[str, type[CsvRows] | type[JsonLinesRows]] = {
    "metadata.csv": CsvRows,
    "metadata.jsonl": JsonLinesRows,
}


class Folder(Source):
    """Files at any depth, each a row: its path, the name of its folder, its split.

    Columns: the modality's own (``image`` or ``audio``: the path), ``label`` (the folder that the
    file lies in), ``split`` (where the first folder is called train, valid, test or the like), and
    those of a file metadata.csv or metadata.jsonl in the folder, whose column ``file_name`` says
    which file a row is about. A file that another of its columns names, such as a mask, belongs to
    that row and is none of its own. Hidden files and folders, and files of other kinds, are passed
    over; the table's notes count them.

    Args:
        path: the folder, or {split: folder}.

    Examples:
        >>> from pathlib import Path
        >>> import pollinate as po
        >>> class Clips(po.sources.Folder):
        ...     column, suffixes = "clip", {".mp4"}
        >>> for kind in ("cat", "dog"):
        ...     Path("clips", kind).mkdir(parents=True)
        ...     Path("clips", kind, "1.mp4").touch()
        >>> list(Clips("clips").table().columns["label"])
        ['cat', 'dog']
    """

    column: str
    suffixes: Collection[str]

    def __init__(self, path: str | Sequence[str] | Mapping[str, Any]) -> None:
        self.path = path
        self.location = str(path)

    def load(self, cache: Cache) -> SourceTable:
        """List the files."""
        found = find_files(self.path)
        rows: list[dict[str, Any]] = []
        notes: list[str] = []
        for split, folder in found:
            rows += self._rows(split, folder, notes)
        names = dict.fromkeys(name for row in rows for name in row)
        columns: dict[str, Column] = {name: [row.get(name) for row in rows] for name in names}
        sizes = [Path(row[self.column]).stat().st_size for row in rows]
        paths: Any = columns[self.column]
        roots = [folder.absolute() for _, folder in found]
        roots += [folder.resolve() for _, folder in found]
        plain = {name: relative_paths(column, roots) for name, column in columns.items()}
        return SourceTable(
            columns,
            columns_digest({**plain, "size": sizes}),
            place=lambda row: str(paths[row]),
            folder=found[0][1],
            mapped=True,
            notes=notes,
        )

    def _rows(self, split: str, folder: Path, notes: list[str]) -> list[dict[str, Any]]:
        if not folder.is_dir():
            raise PollinateError(f"{folder} must be a folder, it is a file")
        below = files_below(folder, self.suffixes)
        below.require_any(folder, self.column, self.suffixes)
        known = metadata(folder)
        named = {name: referenced_files(folder, cells) for name, cells in known.items()}
        others = {path for cells in named.values() for path in cells.values()}
        known_files = {*others, *(Path(os.path.realpath(folder / name)) for name in METADATA)}
        below.forget(known_files)
        notes += [note for note in (below.note(folder),) if note is not None]
        rows = []
        for file in below.files:
            inner = file.relative_to(folder)
            name = inner.as_posix()
            if others and name not in known and Path(os.path.realpath(file)) in others:
                continue
            # found below the folder, links in it included, so it is not looked at again
            row: dict[str, Any] = {self.column: file.absolute()}
            if len(inner.parts) > 1:
                row["label"] = inner.parts[-2]
                if own := split_name(inner.parts[0]):
                    row["split"] = own
            if split:
                row[SPLIT_COLUMN] = split
            rows.append(row | known.pop(name, {}) | named.get(name, {}))
        if known:
            raise PollinateError(
                f"the metadata file of {folder} names files that are not there: "
                f"{', '.join(list(known)[:5])}"
            )
        return rows


class ImageFolder(Folder):
    """A folder of pictures: the column ``image`` and what its class ``Folder`` says.

    Examples:
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> import pollinate as po
        >>> for folder in ("photos/train/cat", "photos/test/dog"):
        ...     Path(folder).mkdir(parents=True)
        ...     Image.new("L", (8, 8)).save(f"{folder}/1.png")
        >>> rows = po.sources.ImageFolder("photos").table()
        >>> sorted(rows.columns["label"]), sorted(rows.columns["split"])
        (['cat', 'dog'], ['test', 'train'])
    """

    column = "image"
    suffixes = IMAGES


class AudioFolder(Folder):
    """A folder of recordings: the column ``audio`` and what its class ``Folder`` says.

    Examples:
        >>> from pathlib import Path
        >>> import pollinate as po
        >>> for folder in ("sounds/rain", "sounds/wind"):
        ...     Path(folder).mkdir(parents=True)
        ...     Path(folder, "1.wav").touch()
        >>> rows = po.sources.AudioFolder("sounds").table()
        >>> [path.name for path in rows.columns["audio"]], sorted(rows.columns["label"])
        (['1.wav', '1.wav'], ['rain', 'wind'])
    """

    column = "audio"
    suffixes = SOUNDS


def metadata(folder: Path) -> dict[str, dict[str, Any]]:
    """Return {file below the folder: further columns} of its metadata file, if it has one.

    Raises:
        PollinateError: the file can't be read, lacks the column ``file_name``, or names a file
            twice.
    """
    for name, reader in METADATA.items():
        if (folder / name).is_file():
            return by_file(reader(folder / name))
    return {}


def by_file(table: RowFile) -> dict[str, dict[str, Any]]:
    """Return {file name: the row's other columns}."""
    if FILE_NAME not in table.columns:
        raise PollinateError(
            f"{table.path} must have a column {FILE_NAME}, it has {', '.join(table.columns)}"
        )
    found = {}
    for row in table.rows():
        if row.error:
            raise PollinateError(f"{table.path}, {table.unit} {row.line}: {row.error}")
        values = {name: None if cell == "" else cell for name, cell in row.values.items()}
        name = Path(str(values.pop(FILE_NAME))).as_posix()
        if name in found:
            raise PollinateError(
                f"{table.path}, {table.unit} {row.line}: {name} was named before; a file is one row"
            )
        found[name] = values
    return found


def referenced_files(folder: Path, cells: Mapping[str, Any]) -> dict[str, Path]:
    """Return {column: file} of those cells that name a file below the folder."""
    found = {}
    for column, cell in cells.items():
        if isinstance(cell, str) and Path(cell).suffix:
            path = resolve_or_unreadable(cell, folder)
            if isinstance(path, Path) and path.is_file():
                found[column] = path
    return found


def relative_paths(column: Column, roots: Sequence[Path]) -> Column:
    """Return a column with its paths below the folders: where these lie does not matter."""

    def shown(cell: Any) -> Any:
        if not isinstance(cell, Path):
            return cell
        return next(str(cell.relative_to(r)) for r in roots if cell.is_relative_to(r))

    return [shown(cell) for cell in column]

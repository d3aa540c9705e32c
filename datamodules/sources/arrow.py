"""Arrow files, and folders that Hugging Face ``datasets`` saved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datamodules.cache import Cache, content_digest
from datamodules.sources.base import Source, find_files
from datamodules.sources.row_files import require_names
from datamodules.table import SPLIT_COLUMN, LazyColumn, SourceTable
from pollinate.errors import PollinateError

if TYPE_CHECKING:
    from datasets import Dataset


class Arrow(Source):
    """Maps Arrow files into memory as they are, without a copy.

    A saved DatasetDict gives its splits by the column ``split``.

    Args:
        path: a file, a folder of ``save_to_disk``, a pattern, a list of them, or {split: either}.
        folder: where relative paths of pictures and recordings begin; default: the file's folder.

    Examples:
        >>> import datasets, pollinate as po
        >>> tea = datasets.Dataset.from_dict({"review": ["good tea", "bad tea"], "stars": [5, 1]})
        >>> tea.save_to_disk("tea")
        >>> rows = po.sources.Arrow("tea").table()
        >>> rows.names, len(rows)
        (['review', 'stars'], 2)
    """

    def __init__(
        self, path: str | Sequence[str] | Mapping[str, Any], folder: str | None = None
    ) -> None:
        self.path = path
        self.folder = folder
        self.location = str(path)

    def load(self, cache: Cache) -> SourceTable:
        """Map every row."""
        found = find_files(self.path)
        parts = [(split, path, *one) for split, path in found for one in open_arrow(path)]
        files = [file for _, path in found for file in arrow_files(path)]
        first = found[0][1]
        folder = Path(self.folder) if self.folder else first if first.is_dir() else first.parent
        given = any(split for split, _, _, _ in parts)
        splits = [split if given else own for split, _, own, _ in parts]
        column = SPLIT_COLUMN if given else "split" if any(splits) else ""
        named = [(f"{path} {own}".strip(), part) for _, path, own, part in parts]
        table = concat_datasets(named, splits, column)
        table.digest, table.folder = content_digest(files), folder
        table.unread = {**table.unread, **unheld_columns(found)}
        return table


def open_arrow(path: Path) -> list[tuple[str, Dataset]]:
    """Return (split or "", data set) of a file or a saved folder."""
    from datasets import DatasetDict, load_from_disk
    from pyarrow import ArrowException  # type: ignore[import-untyped]  # no types

    try:
        if not path.is_dir():
            return [("", map_file(path))]
        loaded = load_from_disk(str(path))
    except (ArrowException, OSError, ValueError) as error:
        raise PollinateError(
            f"{path} must be an Arrow stream file or a folder of save_to_disk: {error}"
        ) from error
    if isinstance(loaded, DatasetDict):
        return [(str(name), part) for name, part in loaded.items()]
    return [("", loaded)]


def map_file(path: Path) -> Dataset:
    """Map an Arrow stream file; columns that no data set can hold are left out."""
    from datasets import Dataset
    from datasets.table import MemoryMappedTable

    from datamodules.sources.arrow_types import unheld

    table = MemoryMappedTable.from_file(str(path))
    require_names(path, table.column_names, "rename one")
    out = unheld(table.schema)
    return Dataset(table.drop(list(out)) if out else table)


def unheld_columns(found: Sequence[tuple[str, Path]]) -> dict[str, str]:
    """Return {column: why no data set can hold it} of Arrow files."""
    from datasets.table import MemoryMappedTable

    from datamodules.sources.arrow_types import unheld

    files = [path for _, path in found if not path.is_dir()]
    tables = (MemoryMappedTable.from_file(str(path)) for path in files)
    return {name: why for table in tables for name, why in unheld(table.schema).items()}


def concat_datasets(
    parts: Sequence[tuple[str, Dataset]], splits: Sequence[str], column: str
) -> SourceTable:
    """Return the rows of all parts, and a column that says the split unless its name is empty.

    Args:
        parts: (what a part is called, its rows).
        splits: of each part.
        column: the name of the column.
    """
    from datamodules.sources.arrow_table import MappedDataset, concat_parts

    mapped = [(name, MappedDataset(partial(_same, part))) for name, part in parts]
    columns, unread = concat_parts(mapped)
    if column:
        names = [
            split for split, (_, part) in zip(splits, mapped, strict=True) for _ in range(len(part))
        ]
        columns[column] = LazyColumn(len(names), lambda rows: [names[row] for row in rows])
    return SourceTable(columns, "", unread=unread, mapped=True)


def _same(part: Dataset) -> Dataset:
    return part


def arrow_files(path: Path) -> list[Path]:
    return sorted(path.rglob("*.arrow")) if path.is_dir() else [path]

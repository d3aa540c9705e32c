"""Arrow files, and folders that Hugging Face ``datasets`` saved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datamodules.cache import Cache, content_digest
from datamodules.sources.base import Source, find_files
from datamodules.table import SPLIT_COLUMN, Column, LazyColumn, SourceTable
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
        parts = [(split, *one) for split, path in found for one in open_arrow(path)]
        files = [file for _, path in found for file in arrow_files(path)]
        first = found[0][1]
        folder = Path(self.folder) if self.folder else first if first.is_dir() else first.parent
        given = any(split for split, _, _ in parts)
        own = any(name for _, name, _ in parts)
        splits = [split if given else name for split, name, _ in parts]
        table = concat_columns(
            [d for _, _, d in parts], splits, SPLIT_COLUMN if given else "split" if own else ""
        )
        return SourceTable(table, content_digest(files), folder=folder, mapped=True)


def open_arrow(path: Path) -> list[tuple[str, Dataset]]:
    """Return (split or "", data set) of a file or a saved folder."""
    from datasets import Dataset, DatasetDict, load_from_disk
    from pyarrow import ArrowException  # type: ignore[import-untyped]  # no types

    try:
        if not path.is_dir():
            return [("", Dataset.from_file(str(path)))]
        loaded = load_from_disk(str(path))
    except (ArrowException, OSError, ValueError) as error:
        raise PollinateError(
            f"{path} must be an Arrow stream file or a folder of save_to_disk: {error}"
        ) from error
    if isinstance(loaded, DatasetDict):
        return [(str(name), part) for name, part in loaded.items()]
    return [("", loaded)]


def concat_columns(parts: list[Dataset], splits: list[str], column: str) -> dict[str, Column]:
    """Return the columns of all parts, and one that says the split, unless its name is empty."""
    from datasets import concatenate_datasets

    from datamodules.sources.arrow_table import MappedDataset

    try:
        columns = MappedDataset(partial(concatenate_datasets, parts)).columns()
    except ValueError as error:
        raise PollinateError(f"the parts' columns must be the same: {error}") from error
    if column:
        names = [split for split, part in zip(splits, parts, strict=True) for _ in range(len(part))]
        columns[column] = LazyColumn(len(names), lambda rows: [names[row] for row in rows])
    return columns


def arrow_files(path: Path) -> list[Path]:
    return sorted(path.rglob("*.arrow")) if path.is_dir() else [path]

"""Rows that a user's own Python holds: DataFrames, data sets of Hugging Face and of PyTorch."""

from __future__ import annotations

import sys
from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from hashlib import sha256
from itertools import accumulate
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from PIL import Image
from torch import Tensor

from datamodules.cache import Cache
from datamodules.inputs import UnreadableCell
from datamodules.modalities.image import decode_image, has_8_bits
from datamodules.progress_bar import track
from datamodules.sources.base import Source
from datamodules.sources.class_names import ClassNames
from datamodules.table import (
    SPLIT_COLUMN,
    Column,
    LazyColumn,
    SourceTable,
    columns_digest,
    content,
    stack_columns,
)
from pollinate.errors import PollinateError, UsageError
from pollinate.suggest import listing

if TYPE_CHECKING:
    import datasets
    import pandas as pd

LONG = 512  # items above which progress is shown


NO_NAMES: Mapping[str, ClassNames] = MappingProxyType({})


def is_class_number(cell: Any) -> bool:
    """Say whether a cell is a class number or a list of them, which a transform left as it was."""
    if isinstance(cell, list):
        return all(map(is_class_number, cell))
    return isinstance(cell, int) and not isinstance(cell, bool)


def is_a(value: object, package: str, name: str) -> bool:
    """Say whether a value is of a package's class, without importing a package that nobody has."""
    kind = getattr(sys.modules.get(package), name, None)
    return isinstance(kind, type) and isinstance(value, kind)


def plain_cell(cell: Any) -> Any:
    """Return a cell as the rest of the library knows it: numbers as such, None for missing ones.

    Missing are None, NaN, and pandas' NA and NaT. Arrays of several numbers, pictures and tensors
    stay what they are.
    """
    if isinstance(cell, Tensor | np.ndarray | np.generic) and cell.ndim == 0:
        cell = cell.item()
    if isinstance(cell, np.ndarray) and cell.dtype.kind in "USO" and cell.ndim == 1:
        return cell.tolist()
    if isinstance(cell, float) and cell != cell:
        return None
    pandas = sys.modules.get("pandas")
    return None if pandas is not None and (cell is pandas.NA or cell is pandas.NaT) else cell


class PythonSource(Source):
    """Rows of a Python object; paths among them may lead anywhere."""

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    @abstractmethod
    def column_names(self) -> list[str]:
        """Names of the columns, in order."""

    def stream(
        self, cache: Cache, columns: Sequence[str], others: Collection[str] | None = None
    ) -> SourceTable:
        """Leave it to each batch to prepare the given columns."""
        table = self.load(cache)
        own = [name for name in columns if name in table.columns]
        table.streamed = {name: there(table.columns[name]) for name in own}
        return table


def there(column: Column) -> np.ndarray:
    """Return which cells aren't empty: (N,) bool."""
    return np.fromiter((cell is not None for cell in column), dtype=bool, count=len(column))


class Frame(PythonSource):
    """A DataFrame of pandas.

    Args:
        frame: of at least one row; a column's name counts as text.
        name: what it is to the user.
    """

    def __init__(self, frame: pd.DataFrame, name: str = "train") -> None:
        super().__init__(name)
        self.frame = frame
        self.location = f"a DataFrame of {len(frame):,} rows"
        names = [str(column) for column in frame.columns]
        twice = sorted({one for one in names if names.count(one) > 1})
        if twice:
            raise PollinateError(
                f"the columns of {name} must differ, got {', '.join(twice)} twice; rename one"
            )
        if not len(frame) or not names:
            raise PollinateError(f"{name} must have at least one row, got an empty DataFrame")

    @property
    def column_names(self) -> list[str]:
        return [str(column) for column in self.frame.columns]

    def load(self, cache: Cache) -> SourceTable:
        columns: dict[str, Column] = {}
        for place, name in enumerate(self.column_names):
            series = self.frame.iloc[:, place]
            empty = series.isna().tolist()
            columns[name] = [
                None if missing else plain_cell(cell)
                for cell, missing in zip(series.tolist(), empty, strict=True)
            ]
        return SourceTable(columns, columns_digest(columns), place=self.place, anywhere=True)

    def place(self, row: int) -> str:
        return f"{self.name}.iloc[{row}]"


class HuggingFace(PythonSource):
    """A data set of Hugging Face, whose cells are read from its files when they are asked for."""

    def __init__(self, dataset: datasets.Dataset, name: str = "train") -> None:
        super().__init__(name)
        self.dataset = dataset
        self.location = f"a data set of Hugging Face of {len(dataset):,} rows"
        if not len(dataset):
            raise PollinateError(f"{name} must have at least one row, got an empty data set")

    @property
    def column_names(self) -> list[str]:
        return list(self.dataset.column_names)

    def load(self, cache: Cache) -> SourceTable:
        # imports of a second that data without files do not need
        from datamodules.sources.arrow_table import MappedDataset

        columns = MappedDataset(lambda: self.dataset).columns()
        mapped = bool(self.dataset.cache_files)
        digest = self.dataset._fingerprint if mapped else columns_digest(columns)
        return SourceTable(columns, digest, place=self.place, anywhere=True, mapped=mapped)

    def place(self, row: int) -> str:
        return f"{self.name}[{row}]"


@runtime_checkable
class MapStyle(Protocol):
    """A data set of PyTorch that has a length and gives items by their number."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: int, /) -> Any: ...


class Items(PythonSource):
    """A map-style data set of PyTorch whose items are {column: value}.

    Each item is read once, in order, and kept; where it is streamed, its inputs are read again when
    a batch asks for them. So items must not change at random: augmentation is the data module's.
    """

    def __init__(
        self,
        items: MapStyle,
        name: str = "train",
        pictures: Collection[str] = (),
        names: Mapping[str, ClassNames] = NO_NAMES,
    ) -> None:
        super().__init__(name)
        self.items, self.pictures, self.names = items, frozenset(pictures), dict(names)
        try:
            self.count = len(items)
        except (TypeError, NotImplementedError) as error:
            raise UsageError(
                f"{name} must have a length, got a {type(items).__name__} without: {error}; "
                "data sets that are only gone through in order can't be split and mixed"
            ) from error
        self.location = f"{type(items).__name__} of {self.count:,} items"
        if not self.count:
            raise PollinateError(f"{name} must have at least one item, got an empty data set")
        self.keys: list[str] = []
        self.keys = list(self.item(0))
        self._table: SourceTable | None = None
        self._last: tuple[bytes, list[Mapping[str, Any]]] | None = None  # a batch has many columns

    @property
    def column_names(self) -> list[str]:
        return list(self.keys)

    def item(self, row: int) -> Mapping[str, Any]:
        """Return an item, checked."""
        place = self.place(row)
        try:
            found = self.items[row]
        except Exception as error:
            raise PollinateError(
                f"{place} raised {type(error).__name__}: {error}; mend __getitem__ of "
                f"{type(self.items).__name__}, or leave the item out"
            ) from error
        if not isinstance(found, Mapping):
            raise PollinateError(
                f"{place} must be a dict {{column: value}}, got {type(found).__name__}; return "
                'for example {"image": image, "label": label}'
            )
        if not found or not all(isinstance(key, str) for key in found):
            raise PollinateError(
                f"the keys of {place} must be texts, the columns' names, got "
                f"{listing(map(repr, found))}"
            )
        if self.keys and set(found) != set(self.keys):
            raise PollinateError(
                f"the keys of {place} must be those of {self.place(0)}, {listing(self.keys)}, got "
                f"{listing(found)}; give every item the same, with None where there is nothing"
            )
        return found

    def cell(self, item: Mapping[str, Any], column: str) -> Any:
        cell = plain_cell(item[column])
        if column in self.names and is_class_number(cell):
            return self.names[column](cell)
        if column not in self.pictures or not isinstance(cell, Tensor | Image.Image):
            return cell
        if not has_8_bits(cell):  # what its numbers mean, the modality knows
            return cell.detach().cpu().clone() if isinstance(cell, Tensor) else cell.copy()
        try:
            return decode_image(cell)
        except PollinateError as error:
            return UnreadableCell(str(error))

    def load(self, cache: Cache) -> SourceTable:
        return self._read(())

    def stream(
        self, cache: Cache, columns: Sequence[str], others: Collection[str] | None = None
    ) -> SourceTable:
        """Read all items, once, and keep all but the given columns."""
        return self._read([name for name in columns if name in self.keys])

    def _read(self, streamed: Sequence[str]) -> SourceTable:
        if self._table is not None and set(self._table.streamed) == set(streamed):
            return self._table
        kept = [name for name in self.keys if name not in streamed]
        columns: dict[str, Column] = {}
        cells: dict[str, list[Any]] = {name: [] for name in kept}
        has = {name: np.zeros(self.count, bool) for name in streamed}
        state, rows = sha256(), range(self.count)
        for row in track(rows, f"reading {self.name}", self.count) if self.count > LONG else rows:
            item = self.item(row)
            for name in self.keys:
                cell = self.cell(item, name)
                state.update(name.encode() + b"\x1f" + content(cell) + b"\x1e")
                if name in has:
                    has[name][row] = cell is not None
                else:
                    cells[name].append(cell)
        for name in self.keys:
            columns[name] = (
                LazyColumn(self.count, _Reader(self, name)) if name in has else cells[name]
            )
        self._table = SourceTable(
            columns, state.hexdigest()[:12], place=self.place, anywhere=True, streamed=has
        )
        return self._table

    def read(self, column: str, rows: np.ndarray) -> list[Any]:
        """Return the cells of rows (k,), read now."""
        key = rows.tobytes()
        if self._last is None or self._last[0] != key:
            self._last = key, [self.item(row) for row in rows.tolist()]
        return [self.cell(item, column) for item in self._last[1]]

    def place(self, row: int) -> str:
        return f"{self.name}[{row}]"


class _Reader:
    """Reads a column of items; a process that prepares batches gets it by pickle."""

    def __init__(self, source: Items, column: str) -> None:
        self.source, self.column = source, column

    def __call__(self, rows: np.ndarray) -> list[Any]:
        return self.source.read(self.column, rows)


class Joined(Source):
    """The rows of several sources, one after the other, each source a split.

    A column that only some of them have is left out; whoever asks for it is told which lack it.

    Args:
        parts: {split: its rows}.
    """

    def __init__(self, parts: Mapping[str, Source]) -> None:
        self.parts = dict(parts)
        self.location = ", ".join(f"{name}: {part.location}" for name, part in parts.items())

    def load(self, cache: Cache) -> SourceTable:
        return self._join(lambda part: part.load(cache))

    def reading(self) -> dict[str, Any]:
        """Return how the first part is read."""
        return next(iter(self.parts.values())).reading()

    def load_columns(self, cache: Cache, columns: Collection[str]) -> SourceTable:
        """Read these columns of all parts."""
        return self._join(lambda part: part.load_columns(cache, columns))

    def stream(
        self, cache: Cache, columns: Sequence[str], others: Collection[str] | None = None
    ) -> SourceTable:
        """Read all parts, and leave the given columns where they are."""
        return self._join(lambda part: part.stream(cache, columns, others))

    def _join(self, read: Callable[[Source], SourceTable]) -> SourceTable:
        tables = {name: read(part) for name, part in self.parts.items()}
        for name, table in tables.items():
            if SPLIT_COLUMN in table.columns:
                raise PollinateError(
                    f"{name} has splits of its own ({self.parts[name].location}); give it alone, "
                    "or name one split's files here"
                )
        return join_tables(tables)


def join_tables(tables: Mapping[str, SourceTable]) -> SourceTable:
    """Return the rows of several tables as those of one, with ``SPLIT_COLUMN``.

    Args:
        tables: {split: its rows}.
    """
    own, splits = list(tables.values()), list(tables)
    starts = [0, *accumulate(map(len, own))]
    names = dict.fromkeys(n for table in own for n in table.columns if n != SPLIT_COLUMN)
    lacking = {n: [s for s, table in tables.items() if n not in table.columns] for n in names}
    whole = [name for name, parts in lacking.items() if not parts]
    columns: dict[str, Column] = {
        name: stack_columns([table.columns[name] for table in own]) for name in whole
    }
    numbers = np.repeat(np.arange(len(own)), [len(table) for table in own])
    columns[SPLIT_COLUMN] = LazyColumn(len(numbers), partial(_splits, numbers, splits))

    def place(row: int) -> str:
        number = int(numbers[row])
        return own[number].place(row - starts[number])

    def release() -> None:
        for table in own:
            table.release()

    pairs = list(zip(starts, own, strict=False))
    state = sha256("".join(f"{s} {len(t)} {t.digest}\n" for s, t in tables.items()).encode())
    lazy = [name for name in whole if all(name in table.streamed for table in own)]
    return SourceTable(
        columns,
        state.hexdigest()[:12],
        {start + row: why for start, table in pairs for row, why in table.bad.items()},
        place,
        parts=own,
        partial={name: " and ".join(parts) for name, parts in lacking.items() if parts},
        unread={name: why for table in own for name, why in table.unread.items()},
        doubts={start + row: why for start, table in pairs for row, why in table.doubts.items()},
        doubtful=sum(table.doubtful for table in own),
        mapped=any(table.mapped for table in own),
        streamed={name: np.concatenate([t.streamed[name] for t in own]) for name in lazy},
        release=release,
        notes=list(dict.fromkeys(note for table in own for note in table.notes)),
    )


def _splits(numbers: np.ndarray, splits: Sequence[str], rows: np.ndarray) -> list[str]:
    return [splits[number] for number in numbers[rows].tolist()]

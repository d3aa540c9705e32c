"""Arrays in .npz files."""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from datamodules.arrays import save_array
from datamodules.cache import Cache, content_digest, file_stamp
from datamodules.sources.base import Source, matching_paths
from datamodules.table import Column, LazyColumn, SourceTable
from pollinate.errors import PollinateError

FORMAT = 1


class Npz(Source):
    """Each array is a column, its first axis the rows; unpacked into the cache, once.

    Arrays with another number of rows than most have are no columns, such as lists of names.

    Args:
        path: the file.
        lengths: {array: array of lengths}: the first holds all rows behind each other, as
            recordings are kept; row i is the next lengths[i] values.
        names: {column: array of names}: the column's numbers become names.

    Examples:
        >>> import numpy as np, pollinate as po
        >>> pictures = np.zeros((3, 8, 8), "uint8")
        >>> np.savez("shapes.npz", image=pictures, kind=[0, 1, 0], kinds=["a", "b"])
        >>> rows = po.sources.Npz("shapes.npz", names={"kind": "kinds"}).table()
        >>> list(rows.columns["kind"]), rows.columns["image"].shape
        (['a', 'b', 'a'], (3, 8, 8))
    """

    def __init__(
        self,
        path: str,
        lengths: Mapping[str, str] | None = None,
        names: Mapping[str, str] | None = None,
    ) -> None:
        self.path = path
        self.location = path
        self.lengths = dict(lengths or {})
        self.names = dict(names or {})

    def load(self, cache: Cache) -> SourceTable:
        """Map the arrays into memory."""
        (path,) = matching_paths(self.path)
        entry = cache.get("npz", [FORMAT, file_stamp(path)], partial(unpack, path))
        arrays = {file.stem: np.load(file, mmap_mode="r") for file in sorted(entry.glob("*.npy"))}
        columns = self._columns(path, arrays)
        return SourceTable(
            columns,
            content_digest([path], {"lengths": self.lengths, "names": self.names}),
            mapped=True,
        )

    def _columns(self, path: Path, arrays: Mapping[str, np.ndarray]) -> dict[str, Column]:
        for name in [*self.lengths, *self.lengths.values(), *self.names, *self.names.values()]:
            if name not in arrays:
                raise PollinateError(f"{path} has no array {name}; it has {', '.join(arrays)}")
        whole = {name: array for name, array in arrays.items() if array.ndim}
        counts = Counter(len(array) for name, array in whole.items() if name not in self.lengths)
        if not counts:
            raise PollinateError(f"{path} has no arrays with rows; it has {', '.join(arrays)}")
        count = max(counts, key=lambda length: (counts[length], length))
        columns: dict[str, Column] = {n: a for n, a in whole.items() if len(a) == count}
        for name, lengths in self.lengths.items():
            columns[name] = split_by_lengths(path, name, whole[name], whole[lengths], count)
        for name, labels in self.names.items():
            columns[name] = map_names(path, name, columns[name], whole[labels])
        return columns


def unpack(path: Path, folder: Path) -> None:
    """Write each array into a file of its own, which can be mapped into memory."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            for name in arrays.files:
                if Path(name).name != name:
                    raise PollinateError(f"{path}: an array's name must be plain, got {name!r}")
                save_array(folder / f"{name}.npy", arrays[name])
    except (ValueError, zipfile.BadZipFile, EOFError, AttributeError) as error:
        raise PollinateError(
            f"{path} must be an .npz of numbers and texts (numpy.savez): {error}"
        ) from error


def split_by_lengths(
    path: Path, name: str, flat: np.ndarray, lengths: np.ndarray, count: int
) -> LazyColumn:
    """Return the rows that lie behind each other in a flat array."""
    if lengths.ndim != 1 or len(lengths) != count or lengths.sum() != len(flat):
        raise PollinateError(
            f"{path}: the lengths of {name} must be {count:,} numbers that sum to its "
            f"{len(flat):,} values, got {len(lengths):,} that sum to {lengths.sum():,}"
        )
    starts = np.concatenate([[0], np.cumsum(lengths)])
    return LazyColumn(count, lambda rows: [flat[starts[row] : starts[row + 1]] for row in rows])


def map_names(path: Path, column: str, numbers: Column, names: np.ndarray) -> LazyColumn:
    found = np.asarray(numbers)
    if found.dtype.kind not in "iu" or found.min() < 0 or found.max() >= len(names):
        raise PollinateError(
            f"{path}: {column} must hold numbers from 0 to {len(names) - 1}, one for each name"
        )
    return LazyColumn(len(found), lambda rows: names[found[rows]].tolist())

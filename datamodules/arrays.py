"""Named arrays, ragged ones among them, in memory or in files mapped into it."""

from __future__ import annotations

import errno
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np


@dataclass
class RaggedArray:
    """Row i is ``flat[starts[i] : starts[i + 1]]``.

    flat: (sum of lengths, ...).
    starts: (N + 1,) int64, ascending from 0.
    """

    flat: np.ndarray
    starts: np.ndarray

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, row: int) -> np.ndarray:
        """Return row ``row`` (length, ...)."""
        found: np.ndarray = self.flat[self.starts[row] : self.starts[row + 1]]
        return found

    def lengths(self) -> np.ndarray:
        """Return the rows' lengths: (N,) int64."""
        return np.diff(self.starts)

    @classmethod
    def of(
        cls, rows: Iterable[np.ndarray], dtype: np.dtype | type, inner: tuple[int, ...] = ()
    ) -> RaggedArray:
        """Put rows (length, *inner) behind each other."""
        parts = [np.empty((0, *inner), dtype), *(np.asarray(row, dtype) for row in rows)]
        lengths = [len(part) for part in parts]
        return cls(np.concatenate(parts), np.cumsum(lengths, dtype=np.int64))


class Arrays(ABC):
    """Arrays and plain values by name: first written, then read."""

    @abstractmethod
    def create(self, name: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """Return a new array of zeros to be filled in place."""

    @abstractmethod
    def grow(self, name: str, dtype: Any, inner: tuple[int, ...] = ()) -> RaggedWriter:
        """Return a new ragged array that rows (length, *inner) are appended to."""

    @abstractmethod
    def get(self, name: str) -> np.ndarray:
        """Return an array that was created."""

    @abstractmethod
    def get_ragged(self, name: str) -> RaggedArray:
        """Return a ragged array that was closed."""

    @abstractmethod
    def put(self, name: str, value: Any) -> None:
        """Keep a plain value."""

    @abstractmethod
    def value(self, name: str) -> Any:
        """Return a plain value, with lists for tuples and texts for keys as JSON has them."""


class RaggedWriter(ABC):
    """A ragged array under way."""

    @abstractmethod
    def append(self, row: np.ndarray) -> None:
        """Add a row (length, *inner)."""

    @abstractmethod
    def close(self) -> None:
        """Make it readable."""


class MemoryArrays(Arrays):
    """Arrays of this process."""

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}
        self.ragged: dict[str, RaggedArray] = {}
        self.values: dict[str, str] = {}

    def create(self, name: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """Return a new array of zeros."""
        self.arrays[name] = np.zeros(shape, dtype)
        return self.arrays[name]

    def grow(self, name: str, dtype: Any, inner: tuple[int, ...] = ()) -> RaggedWriter:
        """Return a new ragged array."""
        return _MemoryRaggedWriter(self.ragged, name, dtype, inner)

    def get(self, name: str) -> np.ndarray:
        return self.arrays[name]

    def get_ragged(self, name: str) -> RaggedArray:
        return self.ragged[name]

    def put(self, name: str, value: Any) -> None:
        self.values[name] = json.dumps(value)

    def value(self, name: str) -> Any:
        return json.loads(self.values[name])


class FileArrays(Arrays):
    """Arrays in files of a folder, of any size: pages are read when they are asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def create(self, name: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """Return a new array of zeros."""
        path = self.folder / f"{name}.npy"
        if 0 in shape:  # nothing can't be mapped
            save_array(path, np.zeros(shape, dtype))
            return np.zeros(shape, dtype)
        return new_mapped_array(path, shape, dtype)

    def grow(self, name: str, dtype: Any, inner: tuple[int, ...] = ()) -> RaggedWriter:
        """Return a new ragged array."""
        return _FileRaggedWriter(self.folder, name, np.dtype(dtype), inner)

    def get(self, name: str) -> np.ndarray:
        path = self.folder / f"{name}.npy"
        shape: np.ndarray = np.load(
            path, mmap_mode="r" if path.stat().st_size > MAX_READ_BYTES else None
        )
        return shape

    def get_ragged(self, name: str) -> RaggedArray:
        """Map a ragged array; where its rows start is read."""
        kind = self.value(f"{name}.kind")
        path, inner = self.folder / f"{name}.flat", tuple(kind["inner"])
        empty = not path.stat().st_size
        mapped = np.empty(0, kind["dtype"]) if empty else np.memmap(path, kind["dtype"], mode="r")
        return RaggedArray(mapped.reshape(-1, *inner), np.load(self.folder / f"{name}.starts.npy"))

    def put(self, name: str, value: Any) -> None:
        (self.folder / f"{name}.json").write_text(json.dumps(value), encoding="utf-8")

    def value(self, name: str) -> Any:
        return json.loads((self.folder / f"{name}.json").read_text(encoding="utf-8"))


MAX_READ_BYTES = 1 << 16  # bytes up to which an array is read instead of mapped
BLOCK = 1 << 22  # bytes written at a time
UNSUPPORTED = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)


def new_mapped_array(path: Path, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Return a new array of zeros in an .npy, mapped into memory, for which there is room.

    Raises:
        OSError: the disk is full; else the process would be killed when it fills the array.
    """
    found = np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype(dtype), shape=shape)
    with path.open("r+b") as file:
        reserve(file, found.offset, found.nbytes)
    return found


def reserve(file: BinaryIO, start: int, size: int) -> None:
    """Give zeros of a file their room on the disk, which they else get when they are overwritten.

    Raises:
        OSError: there is no room.
    """
    try:
        os.posix_fallocate(file.fileno(), start, size)
    except (AttributeError, OSError) as error:  # macOS has none, nor have some file systems
        if isinstance(error, OSError) and error.errno not in UNSUPPORTED:
            raise
        file.seek(start)
        for begin in range(0, size, BLOCK):
            file.write(bytes(min(BLOCK, size - begin)))


def save_array(path: Path, array: np.ndarray) -> None:
    """Do what ``numpy.save`` does, which doesn't say that the disk is full if it is.

    Raises:
        OSError: with the reason.
    """
    if array.nbytes <= MAX_READ_BYTES:
        content = BytesIO()
        np.save(content, array)
        path.write_bytes(content.getvalue())
    else:
        new_mapped_array(path, array.shape, array.dtype)[...] = array


class _MemoryRaggedWriter(RaggedWriter):
    def __init__(
        self, home: dict[str, RaggedArray], name: str, dtype: Any, inner: tuple[int, ...]
    ) -> None:
        self.home, self.name, self.dtype, self.inner = home, name, dtype, inner
        self.rows: list[np.ndarray] = []

    def append(self, row: np.ndarray) -> None:
        self.rows.append(row)

    def close(self) -> None:
        self.home[self.name] = RaggedArray.of(self.rows, self.dtype, self.inner)


class _FileRaggedWriter(RaggedWriter):
    def __init__(self, folder: Path, name: str, dtype: np.dtype, inner: tuple[int, ...]) -> None:
        self.folder, self.name, self.dtype, self.inner = folder, name, dtype, inner
        self.file = (folder / f"{name}.flat").open("wb")
        self.lengths = [0]

    def append(self, row: np.ndarray) -> None:
        try:
            self.file.write(np.ascontiguousarray(row, self.dtype).tobytes())
        except OSError:  # the disk is full: closing would try again
            self.file.raw.close()
            raise
        self.lengths.append(len(row))

    def close(self) -> None:
        self.file.close()
        starts = np.cumsum(self.lengths, dtype=np.int64)
        save_array(self.folder / f"{self.name}.starts.npy", starts)
        kind = {"dtype": self.dtype.str, "inner": list(self.inner)}
        (self.folder / f"{self.name}.kind.json").write_text(json.dumps(kind), encoding="utf-8")

"""Maps of one size, in memory or mapped into it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.arrays import Arrays, InMemory, OnDisk
from datamodules.cache import Cache
from datamodules.columns import Column, Lazy
from datamodules.maps.base import MapFormat, nearest
from datamodules.modalities.image import displayed_size
from pipeline.errors import PollinateError

FORMAT = 1  # of what the cache holds; raised when older entries can't be read


@dataclass
class MapStore:
    """Prepared maps of N rows.

    maps: (N, H, W), ``EMPTY`` where a pixel is not labelled.
    has: (N,) bool, True where the row has one.
    digest: of their content.
    errors: {row: why its map can't be used}; such rows have none.
    """

    maps: np.ndarray
    has: np.ndarray
    digest: str
    errors: dict[int, str] = field(default_factory=dict)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.maps.shape[1], self.maps.shape[2]

    def rows(self, rows: np.ndarray) -> np.ndarray:
        """Return the chosen maps: (n, H, W)."""
        found: np.ndarray = self.maps[rows]
        return found

    def column(self, rows: np.ndarray) -> Lazy:
        """Return the chosen maps as a column, None where a row has none."""
        return Lazy(len(self.has), self._cells, rows)

    def _cells(self, rows: np.ndarray) -> Sequence[Any]:
        return [self.maps[row] if self.has[row] else None for row in rows.tolist()]


def prepare(form: MapFormat, column: Column, pictures: Column, size: tuple[int, int]) -> MapStore:
    """Prepare a column in memory; see ``write``."""
    arrays = InMemory()
    write(form, column, pictures, size, arrays)
    return read(arrays)


def prepare_cached(
    form: MapFormat,
    column: Column,
    pictures: Column,
    size: tuple[int, int],
    cache: Cache,
    key: Any,
) -> MapStore:
    """Prepare a column on disk, if that hasn't been done yet, and map the result into memory.

    Args:
        form, column, pictures, size: as for ``write``.
        cache: where results are kept.
        key: plain values that change when the columns do.
    """
    what = [FORMAT, type(form).__name__, form.options(), list(size), key]

    def make(folder: Path) -> None:
        write(form, column, pictures, size, OnDisk(folder))

    return read(OnDisk(cache.get("maps", what, make)))


def write(
    form: MapFormat, column: Column, pictures: Column, size: tuple[int, int], arrays: Arrays
) -> None:
    """Read every map, and bring it to the pictures' size, pixel by pixel as they are brought to it.

    Args:
        form: how a map is read.
        column: N raw targets; None is a row without one.
        pictures: the N pictures that they lie on, raw.
        size: height, width in pixels.
        arrays: are written to.
    """
    maps = arrays.create("maps", (len(column), *size), form.dtype)
    has = arrays.create("has", (len(column),), bool)
    errors: dict[int, str] = {}
    state = blake2b(digest_size=8)
    for row, (cell, picture) in enumerate(zip(column, pictures, strict=True)):
        if cell is not None:
            try:
                maps[row] = nearest(fitting(form.read(cell), picture), size)
                has[row] = True
            except PollinateError as error:
                errors[row] = str(error)
        state.update(maps[row].tobytes())
    arrays.put("about", {"errors": errors, "digest": state.hexdigest()})


def read(arrays: Arrays) -> MapStore:
    """Return what was written."""
    about = arrays.value("about")
    errors = {int(row): error for row, error in about["errors"].items()}
    return MapStore(arrays.get("maps"), arrays.get("has"), about["digest"], errors)


def fitting(values: np.ndarray, picture: Any) -> np.ndarray:
    """Return a map (H, W) if it has its picture's size.

    Raises:
        PollinateError: it hasn't, or there is no picture.
    """
    if picture is None:
        raise PollinateError("lies on a picture, and the row has none; leave the cell empty")
    size = displayed_size(picture)
    if size is not None and size != values.shape:
        raise PollinateError(
            f"must have the picture's size, {size[1]} x {size[0]} pixels, got "
            f"{values.shape[1]} x {values.shape[0]}; save it in that size"
        )
    return values

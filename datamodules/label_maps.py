"""Targets with one value for each pixel: class masks and depth maps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image, ImageOps
from torch import Tensor

from datamodules.arrays import Arrays, FileArrays, MemoryArrays
from datamodules.cache import Cache
from datamodules.inputs import UnreadableCell
from datamodules.modalities.image import MAX_PIXELS, displayed_size, open_image
from datamodules.regular_files import require_regular
from datamodules.table import Column, LazyColumn
from pollinate.errors import PollinateError, UsageError

UNLABELLED_PIXEL = (
    0  # of a map: the pixel is not labelled; transforms fill with it what comes into view
)


class MapFormat(ABC):
    """Reads a target's cell as values that are ``UNLABELLED_PIXEL`` where a pixel is not labelled.

    Attributes:
        dtype: of the values that are kept.
        modality: on whose inputs the map lies.
    """

    dtype: ClassVar[Any]
    modality: ClassVar[str] = "image"

    @abstractmethod
    def read(self, cell: Any) -> np.ndarray:
        """Return a map (H, W) of ``dtype`` from a path, a file's content or an array.

        Raises:
            PollinateError: it can't be read, or its values can't be labels.
        """

    @abstractmethod
    def options(self) -> dict[str, Any]:
        """Return what ``read`` depends on besides the cell, as plain values."""


def resize_nearest(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bring a map (H, W) to another size: each pixel is the old one at its centre."""
    height, width = (
        ((np.arange(new) + 0.5) * old / new).astype(np.int64)
        for new, old in zip(size, values.shape, strict=True)
    )
    found: np.ndarray = values[height[:, None], width]
    return found


MODES = {"1", "L", "P", "I", "F"}  # of Pillow, with one number a pixel; and I;16 and its like
NPY = ".npy"


def read_map(cell: Any) -> np.ndarray:
    """Return numbers (H, W); a palette picture's are those of its colours in the palette.

    Args:
        cell: the path of a picture or of an .npy, the content of a picture, a picture of Pillow,
            an array (H, W), or a tensor (H, W) or (1, H, W).
    """
    if isinstance(cell, UnreadableCell):
        raise PollinateError(cell.reason)
    if isinstance(cell, np.ndarray):
        return require_plane(cell)
    if isinstance(cell, Tensor):
        values = cell.detach().cpu()
        plane = values[0] if values.ndim == 3 and len(values) == 1 else values
        return require_plane((plane.float() if plane.is_floating_point() else plane).numpy())
    if isinstance(cell, Image.Image):
        return require_plane(numbers_of(cell.copy()))
    if not isinstance(cell, Path | bytes):
        raise PollinateError(f"must be the path of a PNG or .npy, got {cell!r:.40}")
    if isinstance(cell, Path) and cell.suffix.lower() == NPY:
        return read_npy_map(cell)
    return read_image_map(cell)


def read_image_map(file: Path | bytes) -> np.ndarray:
    with open_image(file) as picture:
        if picture.format == "JPEG":
            raise PollinateError("must be a PNG: JPEG changes the numbers when it is saved")
        return numbers_of(picture)


def numbers_of(picture: Image.Image) -> np.ndarray:
    """Return the numbers of a picture of Pillow, a palette's places (H, W)."""
    if picture.mode.partition(";")[0] not in MODES:
        raise PollinateError(
            f"must have one number a pixel, got a picture of {picture.mode}; save it as a grey "
            "or palette PNG"
        )
    ImageOps.exif_transpose(picture, in_place=True)
    return np.array(picture)


def read_npy_map(path: Path) -> np.ndarray:
    """Return the numbers of an .npy; Python objects, which could run code, are refused."""
    try:
        mapped = np.load(require_regular(path), mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise PollinateError(f"must be an .npy of numbers (numpy.save): {error}") from error
    return require_plane(mapped)


def require_plane(values: np.ndarray) -> np.ndarray:
    """Return an array as it is if it is a map."""
    if values.ndim != 2 or values.dtype.kind not in "buif":
        raise PollinateError(
            f"must be numbers (height, width), got {values.dtype} {tuple(values.shape)}"
        )
    if values.size > MAX_PIXELS or not values.size:
        raise PollinateError(f"must have 1 to {MAX_PIXELS:,} pixels, got {values.size:,}")
    return np.array(values)


MAX_CLASS = 32_766  # the largest class number: with what ``UNLABELLED_PIXEL`` takes, 16 bits


class ClassMap(MapFormat):
    """Class numbers: k is kept as k + 1.

    Args:
        ignore: the number of pixels that are not labelled; None: all are.
        count: number of classes, whose numbers are 0 to count - 1; None: not known beforehand.
    """

    dtype = np.int16

    def __init__(self, ignore: int | None = 255, count: int | None = None) -> None:
        if count is not None and not 2 <= count <= MAX_CLASS + 1:
            raise UsageError(f"classes must be 2 to {MAX_CLASS + 1:,} names, got {count}")
        self.ignore = ignore
        self.count = count

    def read(self, cell: Any) -> np.ndarray:
        """Return class numbers plus one: (H, W) int16."""
        values = read_map(cell)
        if values.dtype.kind == "f":
            raise PollinateError(
                f"must hold whole class numbers, got {values.dtype} numbers; for measurements use "
                "type: depth"
            )
        numbers = values.astype(np.int64)
        labelled = np.full(numbers.shape, True) if self.ignore is None else numbers != self.ignore
        if not labelled.any():
            raise PollinateError(
                f"has no labelled pixel, all are {self.ignore}; leave the cell empty"
            )
        self._require_known(numbers, labelled)
        return np.where(labelled, numbers + 1, UNLABELLED_PIXEL).astype(np.int16)

    def _require_known(self, numbers: np.ndarray, labelled: np.ndarray) -> None:
        last = MAX_CLASS if self.count is None else self.count - 1
        strange = labelled & ((numbers < 0) | (numbers > last))
        if strange.any():
            row, column = (int(place) for place in np.argwhere(strange)[0])
            found = int(numbers[row, column])
            advice = "" if self.count is None else "name more classes, or "
            raise PollinateError(
                f"class numbers must be 0 to {last}, got {found} (first at pixel x {column}, "
                f"y {row}); {advice}leave such pixels out: ignore: {found}"
            )

    def options(self) -> dict[str, Any]:
        """Return what stands for no label, and the number of classes."""
        return {"ignore": self.ignore, "count": self.count}


class DepthMap(MapFormat):
    """Distances > 0; 0, NaN and inf say that nothing was measured.

    Args:
        scale: > 0, what a unit of a file of whole numbers is; numbers with a point are kept.
    """

    dtype = np.float32

    def __init__(self, scale: float) -> None:
        if not 0 < scale < float("inf"):
            raise UsageError(f"scale must be > 0, the metres of a unit, got {scale}")
        self.scale = scale

    def read(self, cell: Any) -> np.ndarray:
        """Return distances: (H, W) float32."""
        values = read_map(cell)
        if values.dtype.kind == "b":
            raise PollinateError("must hold distances, got yes and no")
        found = values.astype(np.float64) * (1.0 if values.dtype.kind == "f" else self.scale)
        found = np.where(np.isfinite(found), found, UNLABELLED_PIXEL)
        if (found < 0).any():
            row, column = (int(place) for place in np.argwhere(found < 0)[0])
            raise PollinateError(
                f"distances must be >= 0, got {found[row, column]:g} (first at pixel x {column}, "
                f"y {row}); write 0 or NaN where nothing was measured"
            )
        if not found.any():
            raise PollinateError("has no measurement, all are 0, NaN or inf; leave the cell empty")
        return found.astype(np.float32)

    def options(self) -> dict[str, Any]:
        """Return the scale."""
        return {"scale": self.scale}


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

    def column(self, rows: np.ndarray) -> LazyColumn:
        """Return the chosen maps as a column, None where a row has none."""
        return LazyColumn(len(self.has), self._cells, rows)

    def _cells(self, rows: np.ndarray) -> Sequence[Any]:
        return [self.maps[row] if self.has[row] else None for row in rows.tolist()]


def prepare_maps(
    form: MapFormat, column: Column, pictures: Column, size: tuple[int, int]
) -> MapStore:
    """Prepare a column in memory; see ``write_maps``."""
    arrays = MemoryArrays()
    write_maps(form, column, pictures, size, arrays)
    return read_maps(arrays)


def prepare_maps_cached(
    form: MapFormat,
    column: Column,
    pictures: Column,
    size: tuple[int, int],
    cache: Cache,
    key: Any,
) -> MapStore:
    """Prepare a column on disk, if that hasn't been done yet, and map the result into memory.

    Args:
        form, column, pictures, size: as for ``write_maps``.
        cache: where results are kept.
        key: plain values that change when the columns do.
    """
    what = [FORMAT, type(form).__name__, form.options(), list(size), key]

    def make(folder: Path) -> None:
        write_maps(form, column, pictures, size, FileArrays(folder))

    return read_maps(FileArrays(cache.get("maps", what, make)))


def write_maps(
    form: MapFormat, column: Column, pictures: Column, size: tuple[int, int], arrays: Arrays
) -> None:
    """Read every map, and bring it to the pictures' size, pixel by pixel as they are."""
    maps = arrays.create("maps", (len(column), *size), form.dtype)
    has = arrays.create("has", (len(column),), bool)
    errors: dict[int, str] = {}
    state = blake2b(digest_size=8)
    for row, (cell, picture) in enumerate(zip(column, pictures, strict=True)):
        if cell is not None:
            try:
                maps[row] = resize_nearest(require_image_size(form.read(cell), picture), size)
                has[row] = True
            except PollinateError as error:
                errors[row] = str(error)
        state.update(maps[row].tobytes())
    arrays.put("about", {"errors": errors, "digest": state.hexdigest()})


def read_maps(arrays: Arrays) -> MapStore:
    about = arrays.value("about")
    errors = {int(row): error for row, error in about["errors"].items()}
    return MapStore(arrays.get("maps"), arrays.get("has"), about["digest"], errors)


def require_image_size(values: np.ndarray, picture: Any) -> np.ndarray:
    """Return a map (H, W) if it has its picture's size."""
    if picture is None:
        raise PollinateError("lies on a picture, and the row has none; leave the cell empty")
    size = displayed_size(picture)
    if size is not None and size != values.shape:
        raise PollinateError(
            f"must have the picture's size, {size[1]} x {size[0]} pixels, got "
            f"{values.shape[1]} x {values.shape[0]}; save it in that size"
        )
    return values

"""Maps as files hold them: a picture with one number a pixel, or an .npy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import ImageOps

from datamodules.media import Unreadable
from datamodules.modalities.image import MOST_PIXELS, opened
from pipeline.errors import PollinateError

MODES = {"1", "L", "P", "I", "F"}  # of Pillow, with one number a pixel; and I;16 and its like
NPY = ".npy"


def read_map(cell: Any) -> np.ndarray:
    """Return numbers (H, W); a palette picture's are those of its colours in the palette.

    Args:
        cell: the path of a picture or of an .npy, the content of a picture, or an array.

    Raises:
        PollinateError: nothing is there, it is damaged, or has several numbers a pixel.
    """
    if isinstance(cell, Unreadable):
        raise PollinateError(cell.reason)
    if isinstance(cell, np.ndarray):
        return plane(cell)
    if not isinstance(cell, Path | bytes):
        raise PollinateError(f"must be the path of a PNG or .npy, got {cell!r:.40}")
    if isinstance(cell, Path) and cell.suffix.lower() == NPY:
        return read_npy(cell)
    return read_picture(cell)


def read_picture(file: Path | bytes) -> np.ndarray:
    """Return the numbers of a picture."""
    with opened(file) as picture:
        if picture.format == "JPEG":
            raise PollinateError("must be a PNG: JPEG changes the numbers when it is saved")
        if picture.mode.partition(";")[0] not in MODES:
            raise PollinateError(
                f"must have one number a pixel, got a picture of {picture.mode}; save it as a grey "
                "or palette PNG"
            )
        ImageOps.exif_transpose(picture, in_place=True)
        return np.array(picture)


def read_npy(path: Path) -> np.ndarray:
    """Return the numbers of an .npy; Python objects, which could run code, are refused."""
    try:
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise PollinateError(f"there is no file {path}") from error
    except (OSError, ValueError, EOFError) as error:
        raise PollinateError(f"must be an .npy of numbers (numpy.save): {error}") from error
    return plane(mapped)


def plane(values: np.ndarray) -> np.ndarray:
    """Return an array as it is if it is a map.

    Raises:
        PollinateError: it isn't.
    """
    if values.ndim != 2 or values.dtype.kind not in "buif":
        raise PollinateError(
            f"must be numbers (height, width), got {values.dtype} {tuple(values.shape)}"
        )
    if values.size > MOST_PIXELS or not values.size:
        raise PollinateError(f"must have 1 to {MOST_PIXELS:,} pixels, got {values.size:,}")
    return np.array(values)

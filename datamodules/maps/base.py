"""The map contract: a target that has one value for each pixel of its picture."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np

EMPTY = 0  # of a map: the pixel is not labelled; transforms fill with it what comes into view


class MapFormat(ABC):
    """Reads a target's cell as values that are ``EMPTY`` where a pixel is not labelled.

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


def nearest(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bring a map (H, W) to another size: each pixel is the old one at its centre."""
    height, width = (
        ((np.arange(new) + 0.5) * old / new).astype(np.int64)
        for new, old in zip(size, values.shape, strict=True)
    )
    found: np.ndarray = values[height[:, None], width]
    return found

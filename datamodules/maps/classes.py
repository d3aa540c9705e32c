"""Maps of classes."""

from __future__ import annotations

from typing import Any

import numpy as np

from datamodules.maps.base import EMPTY, MapFormat
from datamodules.maps.reading import read_map
from pipeline.errors import PollinateError, UsageError

MOST = 32_766  # the largest class number: with what ``EMPTY`` takes, 16 bits


class ClassMap(MapFormat):
    """Class numbers: k is kept as k + 1.

    Args:
        ignore: the number of pixels that are not labelled; None: all are.
        count: number of classes, whose numbers are 0 to count - 1; None: not known beforehand.
    """

    dtype = np.int16

    def __init__(self, ignore: int | None = 255, count: int | None = None) -> None:
        if count is not None and not 2 <= count <= MOST + 1:
            raise UsageError(f"classes must be 2 to {MOST + 1:,} names, got {count}")
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
        return np.where(labelled, numbers + 1, EMPTY).astype(np.int16)

    def _require_known(self, numbers: np.ndarray, labelled: np.ndarray) -> None:
        last = MOST if self.count is None else self.count - 1
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

"""Maps of measurements."""

from __future__ import annotations

from typing import Any

import numpy as np

from datamodules.maps.base import EMPTY, MapFormat
from datamodules.maps.reading import read_map
from pipeline.errors import PollinateError, UsageError


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
        found = np.where(np.isfinite(found), found, EMPTY)
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

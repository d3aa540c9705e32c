"""Masks and depths on their pictures."""

from __future__ import annotations

import numpy as np

from datamodules.maps.base import EMPTY
from lightning_modules.tasks.palette import colours

SHARE = 0.55  # of the colour in what is shown


def overlaid(pixels: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return a picture (H, W) or (H, W, 3) with a map (H, W) on it: (H, W, 3), 0 ... 255.

    Classes have the colours of the palette; distances go from yellow (near) to blue (far). Pixels
    that are not labelled show the picture alone, in grey.
    """
    grey = pixels.mean(axis=2) if pixels.ndim == 3 else pixels
    base = np.repeat(grey[..., None], 3, axis=2)
    there = (values != EMPTY)[..., None]
    paint = painted(values)
    return np.where(there, (1 - SHARE) * base + SHARE * paint, base)


def painted(values: np.ndarray) -> np.ndarray:
    """Return a colour for each value (H, W): (H, W, 3)."""
    if values.dtype.kind == "i":
        return colours(max(2, int(values.max())))[np.maximum(values.astype(np.int64) - 1, 0)]
    low, high = values[values != EMPTY].min(initial=np.inf), values.max(initial=0)
    far = ((values - low) / max(high - low, 1e-6)).clip(0, 1)[..., None]
    near, beyond = np.array([255.0, 220.0, 60.0]), np.array([40.0, 40.0, 160.0])
    found: np.ndarray = (1 - far) * near + far * beyond
    return found

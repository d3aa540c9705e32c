"""Pictures inside a page, and texts of cells."""

from __future__ import annotations

import base64
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from datamodules.table import Column

SIDE = 112  # pixels of a thumbnail


def picture(pixels: np.ndarray, side: int = SIDE) -> str:
    """Return pixels as the address of a picture inside the page.

    Args:
        pixels: (H, W) or (H, W, 3), 0 ... 255.
        side: the longer one of the picture, in pixels.
    """
    image = Image.fromarray(np.nan_to_num(pixels).clip(0, 255).astype(np.uint8))
    scale = side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    way = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BILINEAR
    file = BytesIO()
    image.resize(size, way).save(file, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def pixels_of_values(values: Tensor) -> np.ndarray:
    """Return a picture's values (C, H, W), 0 ... 1, as pixels: (H, W) or (H, W, 3)."""
    return np.moveaxis(values.numpy() * 255, 0, -1).squeeze(-1 if values.shape[0] == 1 else ())


def pixels_of_frames(frames: Tensor) -> np.ndarray:
    """Return frames (L, F) as pixels, time to the right and low bands below: (F, L)."""
    found = frames.numpy()
    low, high = np.nanmin(found), np.nanmax(found)
    return np.asarray(255 * (found.T[::-1] - low) / max(high - low, 1e-6))


def pixel_picture(values: Tensor) -> str:
    """Return a picture's values (C, H, W) as the address of a picture inside the page."""
    return picture(pixels_of_values(values))


def map_picture(frames: Tensor) -> str:
    """Return frames (L, F) as the address of a picture inside the page."""
    return picture(pixels_of_frames(frames))


def text_of(column: Column, row: int) -> str:
    """Return a cell as text, - for an empty one."""
    cell: Any = column[row]
    if cell is None:
        return "-"
    return " | ".join(map(str, cell)) if isinstance(cell, list | tuple) else str(cell)

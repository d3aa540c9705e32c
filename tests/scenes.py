"""Generated scenes: rectangles and discs at known distances, with masks and depths in files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIDE = 32
CLASSES = ["ground", "box", "ball"]
FAR, NEAR = 5.0, 1.0  # metres
TINTS = np.array([[0.8, 0.8, 0.8], [1.0, 0.7, 0.5], [0.5, 0.7, 1.0]])  # of each class
HIDDEN = 255  # pixels of a mask that are not labelled


def scene(row: int, side: int = SIDE) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A picture (side, side, 3) uint8, its classes (side, side) uint8, its distances in metres.

    What is nearer is brighter and hides what is farther. The frame is not labelled, and the upper
    left corner isn't measured.
    """
    random = np.random.default_rng(row)
    y, x = np.mgrid[:side, :side] / side
    kind = np.zeros((side, side), np.uint8)
    depth = FAR - (FAR - 3.0) * y  # the ground comes nearer to the lower edge
    for number in range(1, 4):
        distance = random.uniform(NEAR, 3.0)
        (cx, cy), size = random.uniform(0.2, 0.8, 2), 0.3 / distance
        box = np.maximum(abs(x - cx), abs(y - cy)) < size
        shape = box if number % 2 else np.hypot(x - cx, y - cy) < 1.2 * size
        there = shape & (depth > distance)
        kind[there], depth[there] = 2 - number % 2, distance
    light = 1.2 - depth / FAR
    noise = random.normal(0, 0.03, (side, side, 3))
    picture = (255 * (light[..., None] * TINTS[kind] + noise)).clip(0, 255).astype(np.uint8)
    kind[[0, -1]], kind[:, [0, -1]] = HIDDEN, HIDDEN
    depth[: side // 4, : side // 4] = 0
    return picture, kind, depth


def write_scenes(folder: Path, count: int, side: int = SIDE) -> list[dict[str, Any]]:
    """Write scenes; return their rows: photo, mask, depth, and how large the ball is."""
    rows = []
    for name in ("photos", "masks", "depths"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for row in range(count):
        picture, kind, depth = scene(row, side)
        Image.fromarray(picture).save(folder / f"photos/{row}.png")
        if row % 8 != 3:
            Image.fromarray(kind).save(folder / f"masks/{row}.png")
        if row % 8 != 5:
            Image.fromarray((1000 * depth).astype(np.uint16)).save(folder / f"depths/{row}.png")
        rows.append(
            {
                "photo": f"photos/{row}.png",
                "mask": f"masks/{row}.png" if row % 8 != 3 else None,
                "depth": f"depths/{row}.png" if row % 8 != 5 else None,
                "ball": "large" if (kind == 2).mean() > 0.1 else "small",
                "title": f"scene {row}",
            }
        )
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Rows as CSV."""
    lines = [",".join(rows[0]), *(",".join(v or "" for v in row.values()) for row in rows)]
    return "\n".join(lines) + "\n"


def spec(**options: Any) -> dict[str, Any]:
    """A data file of scenes.csv beside it: both dense tasks, and a class of the picture."""
    return {
        "datasets": {
            "scenes": {
                "source": "csv",
                "path": "scenes.csv",
                "inputs": {"image": "photo"},
                "split": {"train": 0.7, "valid": 0.15, "test": 0.15},
            }
            | options
        },
        "tasks": {
            "parts": {
                "dataset": "scenes",
                "type": "segmentation",
                "target": "mask",
                "classes": CLASSES,
            },
            "distance": {"dataset": "scenes", "type": "depth", "target": "depth"},
            "ball": {"dataset": "scenes", "type": "classification", "target": "ball"},
        },
        "image": {"size": [SIDE, SIDE], "shift": 0.0, "rotate": 0.0, "scale": 0.0},
    }

"""A value for each pixel of a picture."""

from __future__ import annotations

from abc import abstractmethod
from base64 import b64encode
from collections.abc import Iterable
from io import BytesIO
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from datamodules.columns import Column, Columns
from datamodules.maps.base import MapFormat, nearest
from lightning_modules.tasks.base import Label, Task
from lightning_modules.tasks.map_head import require_layers
from lightning_modules.views.grid import GridView
from pipeline.errors import PollinateError

MAP = "map"  # key of an answer: (H, W) numbers


class DenseTask(Task):
    """What tasks that label pixels have in common.

    Args:
        maps: how a target is read.
        layers: convolutions of the head.

    Attributes:
        size: height and width of the pictures, known from the training split.
    """

    maps: MapFormat

    def __init__(self, maps: MapFormat, layers: int) -> None:
        require_layers(layers)
        self.maps = maps
        self.layers = layers
        self.view = GridView()
        self.size = (1, 1)

    def problems(self, values: Column, inputs: Columns) -> dict[int, str]:
        """Check that there are pictures; the maps themselves are looked at as they are read.

        Raises:
            PollinateError: the data set has none.
        """
        if self.maps.modality not in inputs:
            raise PollinateError(
                "masks and depths lie on pictures, but the data set has none among its inputs; "
                "name their column: inputs: {image: COLUMN}"
            )
        return {}

    @abstractmethod
    def png(self, values: np.ndarray) -> Image.Image:
        """Return an answer (H, W) as a picture that would be read as a target again."""

    def at_size(self, answer: Label, size: tuple[int, int] | None) -> Label:
        """Return an answer as large as its picture."""
        if size is None or MAP not in answer:
            return answer
        return {MAP: nearest(answer[MAP], size)}

    def file(self, answer: Label) -> bytes | None:
        """Return an answer as a PNG's content."""
        if MAP not in answer:
            return None
        file = BytesIO()
        self.png(answer[MAP]).save(file, format="PNG")
        return file.getvalue()

    def cells(self, answer: Label | None) -> dict[str, Any]:
        """Return a PNG's content as base64."""
        content = self.file(answer or {})
        return {"": None if content is None else b64encode(content).decode()}

    def cell_types(self) -> dict[str, type]:
        """Return a text."""
        return {"": str}

    def baseline(self, target: Tensor) -> dict[str, float]:
        """Score of the constant answer on targets (N, H, W)."""
        return self.baseline_of([target])

    def baseline_of(self, parts: Iterable[Tensor]) -> dict[str, float]:
        """Score of the constant answer on targets that come in parts (n, H, W)."""
        metrics, rows = self.metrics(), 0
        for target in parts:
            rows += len(target)
            if len(target):
                metrics.update(torch.full_like(target, self.constant()), target)
        found = metrics.compute() if rows else {}
        return {name: value.item() for name, value in found.items() if value.ndim == 0}

    @abstractmethod
    def constant(self) -> float:
        """Return the value that is best for every pixel, as ``measured`` has it."""

    def stacked(self, values: Iterable[Any]) -> np.ndarray:
        """Return maps as one array (N, H, W), ``EMPTY`` where a row has none."""
        if isinstance(values, np.ndarray):
            return values
        empty = np.zeros(self.size, self.maps.dtype)
        rows = [empty if value is None else np.asarray(value) for value in values]
        return np.stack(rows) if rows else np.zeros((0, *self.size), self.maps.dtype)

    def answered(self, output: Tensor) -> list[bool]:
        """Say which rows (N, ...) have a picture: without one the view puts zeros."""
        found: list[bool] = output.flatten(1).ne(0).any(dim=1).tolist()
        return found

"""Tasks that predict a value for each pixel."""

from __future__ import annotations

from abc import abstractmethod
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import BytesIO
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from datamodules.label_maps import MapFormat, resize_nearest
from datamodules.labelled_task import Target
from datamodules.table import Column, Columns
from lightning_modules.tasks.base import Label, Task
from lightning_modules.views import GridView
from pollinate.errors import PollinateError, UsageError

GOLDEN = 0.618033988749895  # steps of this share of the circle never come close to each other


def class_colormap(count: int) -> np.ndarray:
    """Return red, green and blue of the numbers 0 to count - 1: (count, 3) uint8.

    Hues go round in golden steps, brightness in three; 0 is black, as background mostly is.
    """
    numbers = np.arange(count)
    hue, value = (numbers * GOLDEN) % 1.0, 1.0 - 0.22 * (numbers % 3)
    # HSV to RGB: channel n is v - v s clip(min(k, 4 - k), 0, 1), k = (n + 6 h) mod 6
    places = (np.array([5, 3, 1]) + 6 * hue[:, None]) % 6
    found = value[:, None] * (1 - 0.75 * np.minimum(places, 4 - places).clip(0, 1))
    found[0] = 0
    rounded: np.ndarray = (255 * found).round().astype(np.uint8)
    return rounded


MAX_ENTRIES = 1 << 24  # numbers of an enlarged output that are in memory at a time


class MapHead(nn.Module):
    """Convolutions on the cells: (N, dim, H', W') -> (N, outputs, H', W').

    Args:
        dim: width of a cell's features.
        outputs: numbers per cell.
        layers: 3 x 3 convolutions with GELU before the last one, which is 1 x 1; >= 0.
    """

    def __init__(self, dim: int, outputs: int, layers: int) -> None:
        super().__init__()
        inner = [m for _ in range(layers) for m in (nn.Conv2d(dim, dim, 3, padding=1), nn.GELU())]
        self.layers = nn.Sequential(*inner, nn.Conv2d(dim, outputs, 1))

    def forward(self, cells: Tensor) -> Tensor:
        found: Tensor = self.layers(cells)
        return found


def require_layers(layers: int) -> None:
    """Check a number of layers."""
    if layers < 0:
        raise UsageError(f"layers must be >= 0 convolutions, got {layers}")


def upsampled(output: Tensor, size: tuple[int, int]) -> Iterator[Tensor]:
    """Yield outputs (N, C, H', W') at the pictures' size, some rows at a time: (n, C, *size).

    Bilinear, in float32 at least. Neighbouring rows together make all of them.
    """
    rows = max(1, MAX_ENTRIES // (output.shape[1] * size[0] * size[1]))
    for part in torch.split(output, rows):
        precise = part.to(torch.promote_types(part.dtype, torch.float32))
        yield functional.interpolate(precise, size, mode="bilinear", align_corners=False)


MAP = "map"  # key of an answer: (H, W) numbers


class DenseTask(Task):
    """What tasks that label pixels have in common.

    Args:
        maps: how a target is read.
        layers: convolutions of the head.
        size: height and width of the pictures; None: known from the training split.
        dataset, target, unseen, unlabelled: as for ``Task``.

    Attributes:
        size: height and width of the pictures; (1, 1) while they are not known.

    Examples:
        >>> import torch, pollinate as po
        >>> task = po.tasks.Segmentation("scenes", "mask", classes=["ground", "ball"], size=[4, 4])
        >>> isinstance(task, po.tasks.DenseTask)
        True
        >>> task.head(dim=8)(torch.randn(2, 8, 2, 2)).shape  # of a grid of cells
        torch.Size([2, 2, 2, 2])
    """

    maps: MapFormat

    def __init__(
        self,
        maps: MapFormat,
        layers: int,
        size: Sequence[int] | None,
        dataset: str | Sequence[str] | None,
        target: Target | Mapping[str, Target] | None,
        *,
        unseen: str,
        unlabelled: str | Sequence[str],
    ) -> None:
        super().__init__(dataset, target, unseen=unseen, unlabelled=unlabelled)
        require_layers(layers)
        if size is not None and (len(size) != 2 or min(size) < 1):
            raise UsageError(f"size must be [height, width], both >= 1, got {list(size)}")
        self.maps = maps
        self.layers = layers
        self.view = GridView()
        self.size = (1, 1) if size is None else (int(size[0]), int(size[1]))

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
        return {MAP: resize_nearest(answer[MAP], size)}

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
        return {"": str}

    def baseline(self, target: Tensor) -> dict[str, float]:
        """Score of the constant prediction on targets (N, H, W)."""
        return self.baseline_of([target])

    def baseline_of(self, parts: Iterable[Tensor]) -> dict[str, float]:
        """Score of the constant prediction on targets that come in parts (n, H, W)."""
        metrics, rows = self.metrics(), 0
        for target in parts:
            rows += len(target)
            if len(target):
                metrics.update(torch.full_like(target, self.constant()), target)
        found = metrics.compute() if rows else {}
        return {name: value.item() for name, value in found.items() if value.ndim == 0}

    @abstractmethod
    def constant(self) -> float:
        """Return the value that is best for every pixel, as ``metric_input`` has it."""

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

"""From cells to pixels."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.errors import UsageError

MOST = 1 << 24  # numbers of an enlarged output that are in memory at a time


class MapHead(nn.Module):
    """Convolutions on the cells: (N, dim, H', W') -> (N, outputs, H', W').

    Args:
        dim: width of a cell's features.
        outputs: numbers a cell.
        layers: 3 x 3 convolutions with GELU before the last one, which is 1 x 1; >= 0.
    """

    def __init__(self, dim: int, outputs: int, layers: int) -> None:
        super().__init__()
        inner = [m for _ in range(layers) for m in (nn.Conv2d(dim, dim, 3, padding=1), nn.GELU())]
        self.layers = nn.Sequential(*inner, nn.Conv2d(dim, outputs, 1))

    def forward(self, cells: Tensor) -> Tensor:
        """Return numbers by cell."""
        found: Tensor = self.layers(cells)
        return found


def require_layers(layers: int) -> None:
    """Check a number of layers.

    Raises:
        UsageError: it is < 0.
    """
    if layers < 0:
        raise UsageError(f"layers must be >= 0 convolutions, got {layers}")


def enlarged(output: Tensor, size: tuple[int, int]) -> Iterator[Tensor]:
    """Yield outputs (N, C, H', W') at the pictures' size, some rows at a time: (n, C, *size).

    Bilinear, in float32 at least. Neighbouring rows together make all of them.
    """
    rows = max(1, MOST // (output.shape[1] * size[0] * size[1]))
    for part in torch.split(output, rows):
        precise = part.to(torch.promote_types(part.dtype, torch.float32))
        yield functional.interpolate(precise, size, mode="bilinear", align_corners=False)

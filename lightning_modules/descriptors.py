"""Pictures and sounds as vectors that a linear model can tell apart: nothing of them is learnt."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

PICTURE, CELLS, COLOURS = 32, 8, 8  # pixels, cells and coloured pixels a side
DIRECTIONS = 9  # of edges
QUARTERS = 4


def picture_descriptors(pictures: Tensor) -> Tensor:
    """Return directions of edges by cell, and small pixels: (N, C, H, W) -> (N, 576 + 64 C).

    Histograms of unsigned directions weighted by strength, each normed with its neighbours.
    Source: Dalal & Triggs 2005, section 6, with 8 x 8 cells and overlapping norms of 3 x 3 cells.
    """
    images = pictures.float()
    size = (PICTURE, PICTURE)
    grey = functional.interpolate(images.mean(1, keepdim=True), size, mode="area")
    edges = functional.pad(grey, (1, 1, 1, 1), mode="replicate")
    across = edges[:, :, 1:-1, 2:] - edges[:, :, 1:-1, :-2]
    down = edges[:, :, 2:, 1:-1] - edges[:, :, :-2, 1:-1]
    strength = (across.square() + down.square()).sqrt()
    place = torch.atan2(down, across).remainder(torch.pi) / torch.pi * DIRECTIONS
    low = place.floor()
    near = [
        strength * (((low.long() + k) % DIRECTIONS == b) * (place - low if k else 1 - place + low))
        for b in range(DIRECTIONS)
        for k in (0, 1)
    ]
    bins = torch.cat(near, dim=1)
    bins = bins[:, ::2] + bins[:, 1::2]
    cells = functional.avg_pool2d(bins, PICTURE // CELLS)
    energy = functional.avg_pool2d(cells.square().sum(1, keepdim=True), 3, 1, 1)
    shapes = (cells / (energy + 1e-6).sqrt()).flatten(1)
    colours = functional.interpolate(images, (COLOURS, COLOURS), mode="area").flatten(1)
    return torch.cat([shapes, colours], dim=1)


def sound_descriptors(frames: Tensor) -> Tensor:
    """Return mean and deviation over time, and the means of the quarters: (N, L, F) -> (N, 6 F).

    Args:
        frames: spectrograms, NaN beyond a row's end.
    """
    found = []
    for row in frames.float():
        real = row[~row.isnan().any(dim=-1)]
        if not len(real):
            real = real.new_zeros(1, row.shape[-1])
        quarters = functional.adaptive_avg_pool1d(real.T[None], QUARTERS)[0].T
        found.append(torch.cat([real.mean(0), real.std(0, unbiased=False), *quarters]))
    return torch.stack(found) if found else frames.new_zeros(0, 6 * frames.shape[-1])


DESCRIPTORS: dict[str, Callable[[Tensor], Tensor]] = {
    "image": picture_descriptors,
    "audio": sound_descriptors,
}


def picture_cells(values: Tensor) -> Tensor:
    """Add up what is of a part of the picture: (N, 576 + 64 C, K) -> (N, 8, 8, K)."""
    edges = DIRECTIONS * CELLS**2
    shapes, colours = values[:, :edges], values[:, edges:]
    count, kinds = len(values), values.shape[-1]
    cells = [part.reshape(count, -1, CELLS, CELLS, kinds).sum(dim=1) for part in (shapes, colours)]
    return cells[0] + cells[1]


def sound_cells(values: Tensor) -> Tensor:
    """Add up what is of a quarter and a band: (N, 6 F, K) -> (N, 4, F, K).

    Means and deviations over all time are of the four quarters alike.
    """
    parts = values.reshape(len(values), 2 + QUARTERS, -1, values.shape[-1])
    return parts[:, 2:] + parts[:, :2].sum(dim=1, keepdim=True) / QUARTERS


# {modality: what adds up numbers of descriptors by where in the input they are from}
DESCRIPTOR_CELLS: dict[str, Callable[[Tensor], Tensor]] = {
    "image": picture_cells,
    "audio": sound_cells,
}

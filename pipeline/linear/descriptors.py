"""Rows as vectors for a linear model: terms of texts, shapes and colours, means of sounds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor
from torch.nn import functional

from datamodules.modalities.text import texts_of
from datamodules.terms import count_terms

Matrix = np.ndarray | sparse.csr_matrix

PICTURE, CELLS, COLOURS = 32, 8, 8  # pixels, cells and coloured pixels a side
DIRECTIONS = 9  # of edges
QUARTERS = 4


def count_cells(cells: Iterable[Any]) -> sparse.csr_matrix:
    """Return the terms of cells' texts, (N, TERMS)."""
    return count_terms([" ".join(texts_of(cell)) for cell in cells])


def picture_descriptors(pictures: Tensor) -> np.ndarray:
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
    return torch.cat([shapes, colours], dim=1).numpy()


def sound_descriptors(frames: Tensor) -> np.ndarray:
    """Return mean and deviation over time, and the means of the quarters: (N, L, F) -> (N, 6 F).

    Args:
        frames: spectrograms, NaN beyond a row's end.
    """
    found = []
    for row in frames.float():
        real = row[~row.isnan().any(dim=-1)]
        if not len(real):
            real = torch.zeros(1, row.shape[-1])
        quarters = functional.adaptive_avg_pool1d(real.T[None], QUARTERS)[0].T
        found.append(torch.cat([real.mean(0), real.std(0, unbiased=False), *quarters]))
    return torch.stack(found).numpy()


DESCRIPTORS: dict[str, Callable[[Tensor], np.ndarray]] = {
    "image": picture_descriptors,
    "audio": sound_descriptors,
}


class Standardised:
    """Columns of mean 0 and deviation 1, rows of a norm of about 1; a row without a value is 0."""

    def fit(self, values: np.ndarray) -> Standardised:
        """Learn means and deviations of training rows that have a value."""
        self.mean = values.mean(0) if len(values) else np.zeros(values.shape[1])
        deviation = values.std(0) if len(values) else np.ones(values.shape[1])
        self.scale = np.where(deviation > 1e-8, deviation, np.inf) * np.sqrt(values.shape[1])
        return self

    def __call__(self, values: np.ndarray, has: np.ndarray) -> np.ndarray:
        """Return standardised values, 0 where there are none: (N, D) float32."""
        found: np.ndarray = ((values - self.mean) / self.scale) * has[:, None]
        return found.astype(np.float32)

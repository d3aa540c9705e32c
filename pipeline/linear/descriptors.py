"""Rows as vectors for a linear model: terms of texts, shapes and colours, means of sounds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor
from torch.nn import functional

from datamodules.modalities.text import texts_of
from datamodules.terms import is_unspaced

Matrix = np.ndarray | sparse.csr_matrix

MOST_TERMS = 200_000  # n-grams of each kind, the most frequent ones
PICTURE, CELLS, COLOURS = 32, 8, 8  # pixels, cells and coloured pixels a side
DIRECTIONS = 9  # of edges
QUARTERS = 4


class TextTerms:
    """TF-IDF of words and pairs of words beside that of characters' n-grams; each part has norm 1.

    (1 + log tf) (1 + log((1 + n) / (1 + df))): Salton & Buckley 1988, smoothed as in scikit-learn.
    """

    def fit(self, cells: Sequence[Any]) -> TextTerms:
        """Learn the terms of training rows."""
        from sklearn.feature_extraction.text import TfidfVectorizer  # a second

        texts = plain_texts(cells)
        often = 2 if len(texts) > 2000 else 1
        dense = is_unspaced(texts)
        shared = {"sublinear_tf": True, "max_features": MOST_TERMS, "dtype": np.float32}
        characters = TfidfVectorizer(
            analyzer="char" if dense else "char_wb",
            ngram_range=(1, 3) if dense else (2, 5),
            min_df=often,
            **shared,
        )
        words = TfidfVectorizer(
            ngram_range=(1, 2), token_pattern=r"(?u)\b\w+\b|[^\w\s]", min_df=1, **shared
        )
        self.parts = []
        for part in (words, characters):
            with suppress(ValueError):  # no text has a term
                self.parts.append(part.fit(texts))
        return self

    def __call__(self, cells: Sequence[Any]) -> sparse.csr_matrix:
        """Return a row for each text: (N, terms)."""
        texts = plain_texts(cells)
        if not texts or not self.parts:
            width = sum(len(part.vocabulary_) for part in self.parts)
            return sparse.csr_matrix((len(texts), width or 1), dtype=np.float32)
        return sparse.hstack([part.transform(texts) for part in self.parts], "csr")


def plain_texts(cells: Iterable[Any]) -> list[str]:
    return [" ".join(texts_of(cell)) for cell in cells]


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

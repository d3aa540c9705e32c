"""Rows as vectors for a linear model: terms of texts, and standardised descriptors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from scipy import sparse

from datamodules.modalities.text import texts_of
from datamodules.terms import count_terms

Matrix = np.ndarray | sparse.csr_matrix


def count_cells(cells: Iterable[Any]) -> sparse.csr_matrix:
    """Return the terms of cells' texts, (N, TERMS)."""
    return count_terms([" ".join(texts_of(cell)) for cell in cells])


class Standardised:
    """Columns of mean 0 and deviation 1, rows of a norm of about 1; a row without a value is 0.

    A value beyond those of the training rows counts as the nearest of them: what was 0 in all rows
    but one has so small a deviation that a new row's would outweigh everything else.
    """

    def fit(self, values: np.ndarray) -> Standardised:
        """Learn means and deviations of training rows that have a value."""
        nothing = np.zeros(values.shape[1])
        self.mean = values.mean(0) if len(values) else nothing
        self.low = values.min(0) if len(values) else nothing
        self.high = values.max(0) if len(values) else nothing
        deviation = values.std(0) if len(values) else np.ones(values.shape[1])
        self.scale = np.where(deviation > 1e-8, deviation, np.inf) * np.sqrt(values.shape[1])
        return self

    def __call__(self, values: np.ndarray, has: np.ndarray) -> np.ndarray:
        """Return standardised values, 0 where there are none: (N, D) float32."""
        near = values.clip(self.low, self.high)
        found: np.ndarray = ((near - self.mean) / self.scale) * has[:, None]
        return found.astype(np.float32)

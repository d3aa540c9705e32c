"""Fewer labels of the same rows."""

from __future__ import annotations

from zlib import crc32

import numpy as np


def generator(seed: int, dataset: str, task: str) -> np.random.Generator:
    """Return what draws a task's labels in a data set; other tasks and data sets change nothing."""
    return np.random.default_rng([seed, crc32(f"{dataset}/{task}".encode())])


def thinned(
    present: np.ndarray, strata: np.ndarray, share: float, draw: np.random.Generator
) -> np.ndarray:
    """Return which labels are left: max(1, round(share n)) of each stratum's n.

    With the same draw a smaller share leaves a part of what a larger one leaves.

    Args:
        present: (N,) bool, rows with a label.
        strata: (N,) int, of which each is left its share: the classes, say.
        share: in (0, 1].
        draw: random numbers.
    """
    left = np.zeros(len(present), bool)
    order = draw.permutation(len(present))
    for stratum in np.unique(strata[present]):
        own = order[present[order] & (strata[order] == stratum)]
        left[own[: max(1, round(share * len(own)))]] = True
    return left

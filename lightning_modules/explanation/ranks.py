"""How alike two explanations of the same answer are."""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata
from torch import Tensor

from lightning_modules.explanation.parts import coarsened

CELLS = 16  # a side of the maps that are compared


def rank_correlation(first: Tensor, second: Tensor) -> float | None:
    """Return Spearman's rank correlation of n numbers, None where one has only equal numbers.

    Maps (H, W) are compared by the means of at most 16 x 16 cells, those of two sizes too.
    """
    if first.dim() > 1:
        shape = [min(CELLS, *sides) for sides in zip(first.shape, second.shape, strict=True)]
        first, second = coarsened(first, shape), coarsened(second, shape)
    ranks = [rankdata(one.flatten().double().numpy()) for one in (first, second)]
    deviations = [own - own.mean() for own in ranks]
    lengths = [float(np.linalg.norm(own)) for own in deviations]
    if not all(lengths):
        return None
    return float(deviations[0] @ deviations[1] / (lengths[0] * lengths[1]))


def parted(first: Tensor, second: Tensor) -> Tensor:
    """Return p - q, where p and q are the pieces' shares of all that is added to each: (P,)."""
    shares = [one.double() / one.double().abs().sum().clamp(min=1e-12) for one in (first, second)]
    return shares[0] - shares[1]

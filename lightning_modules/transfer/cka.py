"""Representations that agree up to a rotation."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from lightning_modules.hooks import TrainingStep
from lightning_modules.transfer.feature_pairs import FeaturePair
from lightning_modules.transfer.feature_transfer import (
    REPRESENTATION,
    SingleSourceTransfer,
    distance_of_all_rows,
)

EPSILON = 1e-12
MIN_ROWS = 4  # rows that the estimator is defined for


class CKA(SingleSourceTransfer):
    """1 - HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)), K = X X^T and L = Y Y^T of a step's rows.

    Widths may differ, and turning or scaling a representation changes nothing. HSIC is the
    estimator without bias, so that the mean over steps doesn't depend on the rows of a step.
    Sources: Kornblith et al. 2019, "Similarity of neural network representations revisited",
    equation 4; Nguyen, Raghu and Kornblith 2021, "Do wide and deep networks learn the same
    things?", equation 3 (Song et al. 2012).

    Args:
        source, at, modalities, tasks: as for ``FeatureSelection``; at is pooled or representation.
        weight, until: as for ``FeatureTransfer``.

    Raises:
        UsageError: an option is out of range.

    Examples:
        >>> import pollinate as po
        >>> transfer = po.transfer.CKA("runs/first", at="pooled")
        >>> model = po.MultiTaskModule(data, dim=32, transfer=transfer, sources=po.SourceOpener())
        >>> trainer.fit(model, data)
        >>> 0 < trainer.callback_metrics["transfer/cka/text"].item() < 2
        True
    """

    kinds: ClassVar[tuple[str, ...]] = ("pooled", REPRESENTATION)

    def distance(self, name: str, pair: FeaturePair, step: TrainingStep) -> Tensor:
        """Return 1 - CKA of all processes' rows."""
        return distance_of_all_rows(pair, MIN_ROWS, lambda own, other: 1 - debiased_cka(own, other))


def debiased_cka(x: Tensor, y: Tensor) -> Tensor:
    """Return the debiased linear CKA of the same n >= 4 rows: (n, D), (n, E) -> (), <= 1."""
    k, other = gram(x), gram(y)
    both = unbiased_hsic(k, k).clamp_min(EPSILON) * unbiased_hsic(other, other).clamp_min(EPSILON)
    return unbiased_hsic(k, other) / both.sqrt()


def gram(rows: Tensor) -> Tensor:
    """Return X X^T without its diagonal, X of mean 0 and length 1: (n, D) -> (n, n).

    Neither mean nor length changes CKA; they keep large numbers from hiding small ones.
    """
    rows = rows - rows.mean(dim=0)
    rows = rows / (rows.square().mean() + EPSILON).sqrt()
    found = rows @ rows.mT / rows.shape[1]
    return found * (1 - torch.eye(len(rows), dtype=rows.dtype, device=rows.device))


def unbiased_hsic(k: Tensor, other: Tensor) -> Tensor:
    """Return the unbiased estimate of HSIC of matrices (n, n) with a diagonal of 0: ()."""
    n = len(k)
    sums = k.sum() * other.sum() / ((n - 1) * (n - 2))
    crossed = 2 / (n - 2) * (k.sum(dim=0) @ other.sum(dim=0))
    return ((k * other).sum() + sums - crossed) / (n * (n - 3))

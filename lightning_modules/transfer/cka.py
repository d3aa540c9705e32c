"""Representations that are alike up to a turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from lightning_modules.transfer.base import TransferStep
from lightning_modules.transfer.comparing import of_all_rows
from lightning_modules.transfer.one_source import HEADS, Compared, OneSource
from lightning_modules.transfer.pairs import Pair

FAINT = 1e-12
LEAST = 4  # rows that the estimator is defined for


class CKA(OneSource):
    """1 - HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)), K = X X^T and L = Y Y^T of a step's rows.

    Widths may differ, and turning or scaling a representation changes nothing. HSIC is the
    estimator without bias, so that the mean over steps doesn't depend on the rows of a step.
    Sources: Kornblith et al. 2019, "Similarity of neural network representations revisited",
    equation 4; Nguyen, Raghu and Kornblith 2021, "Do wide and deep networks learn the same
    things?", equation 3 (Song et al. 2012).

    Args:
        source, at, modalities, tasks: as for ``Compared``; at is pooled or representation.
        weight, until: as for ``Comparing``.

    Raises:
        UsageError: an option is out of range.
    """

    kinds: ClassVar[tuple[str, ...]] = ("pooled", HEADS)

    def __init__(
        self,
        source: str,
        at: str | None = None,
        modalities: Sequence[str] | None = None,
        tasks: Mapping[str, str] | Sequence[str] | None = None,
        weight: float = 1.0,
        until: int | None = None,
    ) -> None:
        super().__init__(Compared(source, at, modalities, tasks), weight, until)

    def distance(self, name: str, pair: Pair, step: TransferStep) -> Tensor:
        """Return 1 - CKA of all processes' rows."""
        return of_all_rows(pair, LEAST, lambda own, other: 1 - linear_cka(own, other))


def linear_cka(x: Tensor, y: Tensor) -> Tensor:
    """Return the debiased linear CKA of the same n >= 4 rows: (n, D), (n, E) -> (), <= 1."""
    k, other = gram(x), gram(y)
    both = hsic(k, k).clamp_min(FAINT) * hsic(other, other).clamp_min(FAINT)
    return hsic(k, other) / both.sqrt()


def gram(rows: Tensor) -> Tensor:
    """Return X X^T without its diagonal, X of mean 0 and length 1: (n, D) -> (n, n).

    Neither mean nor length changes CKA; they keep large numbers from hiding small ones.
    """
    rows = rows - rows.mean(dim=0)
    rows = rows / (rows.square().mean() + FAINT).sqrt()
    found = rows @ rows.mT / rows.shape[1]
    return found * (1 - torch.eye(len(rows), dtype=rows.dtype, device=rows.device))


def hsic(k: Tensor, other: Tensor) -> Tensor:
    """Return the unbiased estimate of HSIC of matrices (n, n) with a diagonal of 0: ()."""
    n = len(k)
    sums = k.sum() * other.sum() / ((n - 1) * (n - 2))
    crossed = 2 / (n - 2) * (k.sum(dim=0) @ other.sum(dim=0))
    return ((k * other).sum() + sums - crossed) / (n * (n - 3))

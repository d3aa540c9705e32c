"""Linear CKA: how alike two sets of features of the same rows are."""

from __future__ import annotations

import math

from torch import Tensor

from lightning_modules.transferability.base import (
    Evidence,
    Score,
    UnavailableError,
    center,
    require_evidence,
    require_rows,
)

MIN_ROWS = 4  # rows that the unbiased estimator needs


class LinearCKA(Score):
    """HSIC(X, Y) / sqrt(HSIC(X, X) HSIC(Y, Y)), each by its unbiased estimator.

    X are the source's features. Y are the features of a model of the target, if one is given (how
    alike are the two models? Dwivedi and Roig 2019), else the labels, a column per class (how alike
    are rows of the same class? that is the centred kernel-target alignment of Cortes et al. 2012).

    Source: Kornblith et al. 2019; the estimator of HSIC is that of Song et al. 2012: the plain one,
    of mean > 0 also for unrelated features, favours wide ones.

    Examples:
        >>> import torch, pollinate as po
        >>> features = torch.randn(20, 4)
        >>> turned = features[:, [3, 2, 1, 0]] * 5
        >>> score = po.scores.LinearCKA().score(po.Evidence(features=features, reference=turned))
        >>> round(score, 4)
        1.0
    """

    title = "CKA"

    def score(self, evidence: Evidence) -> float:
        """Return a number <= 1, near 0 for unrelated features."""
        features, reference = (
            require_evidence(evidence.features),
            require_evidence(evidence.reference),
        )
        require_rows(len(features), MIN_ROWS, self.title)
        return cka_score(features, reference)


def cka_score(x: Tensor, y: Tensor) -> float:
    """Return the debiased linear CKA of (N, D) and (N, E), N >= 4.

    Raises:
        UnavailableError: all rows of one of them are the same.
    """
    x, y = center(x), center(y)  # changes nothing but how exact it is
    own = linear_hsic(x, x), linear_hsic(y, y)
    if min(own) <= 0:
        raise UnavailableError("features or labels hardly differ from row to row")
    return linear_hsic(x, y) / math.sqrt(own[0] * own[1])


def linear_hsic(x: Tensor, y: Tensor) -> float:
    """Return the unbiased HSIC of (N, D) and (N, E) with linear kernels, in O(N D E).

    With K = X X' and L = Y Y' whose diagonals are set to 0:

        [tr(K L) + 1'K1 1'L1 / ((n - 1) (n - 2)) - 2 / (n - 2) 1'K L1] / (n (n - 3))
    """
    n = len(x)
    lengths_x, lengths_y = x.square().sum(dim=1), y.square().sum(dim=1)
    rows_x = x @ x.sum(dim=0) - lengths_x  # K 1
    rows_y = y @ y.sum(dim=0) - lengths_y  # L 1
    trace = (x.T @ y).square().sum() - lengths_x @ lengths_y
    both = rows_x.sum() * rows_y.sum() / ((n - 1) * (n - 2))
    return float((trace + both - 2 / (n - 2) * (rows_x @ rows_y)) / (n * (n - 3)))

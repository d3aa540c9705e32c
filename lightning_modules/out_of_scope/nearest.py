"""Distance of features to the nearest rows."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor
from torch.nn import functional

from lightning_modules.out_of_scope.base import OutOfScopeScore, ScopeRows

MOST = 2000  # rows that are kept


class NearestRows(OutOfScopeScore):
    """|h / |h| - h_(k) / |h_(k)||, the distance of a row's features to its k-th nearest kept row.

    Source: Sun et al. 2022, "Out-of-distribution detection with deep nearest neighbors", section 3.

    Args:
        k: >= 1.

    Examples:
        >>> import torch, pollinate as po
        >>> rows = po.out_of_scope.ScopeRows(torch.tensor([[1.0, 0.0], [1.0, 0.1]]), None)
        >>> score = po.out_of_scope.NearestRows(k=1).fit(rows)
        >>> score(po.out_of_scope.ScopeRows(torch.tensor([[2.0, 0.0], [0.0, 1.0]]), None))[0]
        tensor(0.)
    """

    numbers = ("kept",)

    def __init__(self, k: int = 5) -> None:
        self.k = k
        self.kept = torch.zeros(0, 0)  # (M, D), of length 1

    def can_fit(self, rows: ScopeRows) -> bool:
        return self.can_score(rows)

    def can_score(self, rows: ScopeRows) -> bool:
        return rows.features is not None

    def fit(self, rows: ScopeRows) -> Self:
        assert rows.features is not None
        every = max(1, -(-len(rows.features) // MOST))
        self.kept = functional.normalize(rows.features[::every].float(), dim=1).cpu()
        return self

    def __call__(self, rows: ScopeRows) -> Tensor:
        assert rows.features is not None
        unit = functional.normalize(rows.features.float(), dim=1)
        kept = self.kept.to(unit)
        nearest = (unit @ kept.T).topk(min(self.k, len(kept)), dim=1).values[:, -1]
        return (2 - 2 * nearest).clamp(min=0).sqrt()  # of vectors of length 1

"""Energy of the logits."""

from __future__ import annotations

from typing import Self

from torch import Tensor

from lightning_modules.out_of_scope.base import OutOfScopeScore, ScopeRows


class Energy(OutOfScopeScore):
    """-log sum_c exp z_c: a row of no class has no large logit.

    Source: Liu et al. 2020, "Energy-based out-of-distribution detection", equation 4, T = 1.

    Examples:
        >>> import torch, pollinate as po
        >>> rows = po.out_of_scope.ScopeRows(None, torch.tensor([[5.0, 0.0], [0.2, 0.1]]))
        >>> usual, strange = po.out_of_scope.Energy()(rows)
        >>> usual < strange
        tensor(True)
    """

    def __init__(self) -> None:
        self.known: Tensor | None = None

    def can_fit(self, rows: ScopeRows) -> bool:
        return self.can_score(rows)

    def can_score(self, rows: ScopeRows) -> bool:
        return rows.logits is not None

    def fit(self, rows: ScopeRows) -> Self:
        return self

    def __call__(self, rows: ScopeRows) -> Tensor:
        assert rows.logits is not None
        logits = rows.logits.float()
        if self.known is not None:
            logits = logits[:, self.known]
        return -logits.logsumexp(dim=1)

    def without(self, classes: Tensor) -> Self:
        found = type(self)()
        found.known = classes
        return found

"""Attention to what an encoder gives besides one vector per row."""

from __future__ import annotations

import torch
from torch import Tensor, einsum, inf, nn
from torch.nn import functional

from datamodules.features import Features
from pollinate.errors import UsageError


class CrossAttention(nn.Module):
    """W_o [softmax(q_h K_h^T / sqrt(d)) V_h for each head h], K = W_k norm(M), V = W_v norm(M).

    Source: Vaswani et al. 2017, "Attention is all you need", equation 1 and section 3.2.2; queries
    come projected.

    Args:
        dim: width D.
        heads: their number, a divisor of D; d = D / heads.

    Raises:
        UsageError: heads doesn't divide dim.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        if heads < 1 or dim % heads:
            raise UsageError(f"heads must divide dim = {dim}, got {heads}")
        self.heads = heads
        self.norm = nn.LayerNorm(dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, queries: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        """Return what the queries find: (N, Q, D), (N, L, D), (N, L) bool -> (N, Q, D).

        The mask is True where memory holds something: once a row at least.
        """
        return self.attend(queries, self.learn(memory), mask)

    def learn(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Return K and V of all heads: (N, L, D) each; for several calls of ``attend``."""
        normed = self.norm(memory)
        return self.key(normed), self.value(normed)

    def attend(self, queries: Tensor, learnt: tuple[Tensor, Tensor], mask: Tensor) -> Tensor:
        """Attend to what ``learn`` returned: (N, Q, D) -> (N, Q, D)."""
        return self.look(queries, learnt, mask)[0]

    def look(
        self, queries: Tensor, learnt: tuple[Tensor, Tensor], mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return what ``attend`` does, and the weights, mean over heads: (N, Q, D), (N, Q, L)."""
        q, k, v = (self._parted(rows) for rows in (queries, *learnt))
        scores = einsum("nqhd,nlhd->nhql", q, k) / q.shape[-1] ** 0.5
        weights = scores.masked_fill(~mask[:, None, None], -inf).softmax(dim=-1)
        attended: Tensor = self.out(einsum("nhql,nlhd->nqhd", weights, v).flatten(2))
        return attended, weights.mean(dim=1)

    def _parted(self, rows: Tensor) -> Tensor:
        """Return each head's part: (N, L, D) -> (N, L, heads, d)."""
        return rows.reshape(*rows.shape[:2], self.heads, rows.shape[2] // self.heads)


def all_vectors(features: Features) -> tuple[Tensor, Tensor]:
    """Return all vectors of each row: (N, 1 + L, D), and (N, 1 + L) where they are real.

    The pooled vector comes first, then the tokens of a sequence or the cells of a grid, if any.
    """
    pooled, sequence, mask = features.pooled[:, None], features.sequence, features.mask
    if features.grid is not None:
        sequence, mask = features.grid.flatten(2).mT, None
    if sequence is None:
        return pooled, torch.ones_like(pooled[..., 0], dtype=torch.bool)
    if mask is None:
        mask = torch.ones_like(sequence[..., 0], dtype=torch.bool)
    return torch.cat([pooled, sequence], dim=1), functional.pad(mask, (1, 0), value=True)

"""Pooling over a row's real tokens, so that padding changes nothing."""

from __future__ import annotations

from torch import Tensor, einsum, inf


def masked_mean(rows: Tensor, mask: Tensor) -> Tensor:
    """Mean over the tokens where the mask is True, 0 if there are none: (N, L, D) -> (N, D)."""
    return (rows * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True).clamp(min=1)


def masked_max(rows: Tensor, mask: Tensor) -> Tensor:
    """Maximum over the tokens where the mask is True, at least one a row: (N, L, D) -> (N, D)."""
    return rows.masked_fill(~mask[..., None], -inf).amax(dim=1)


def attended_mean(rows: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
    """sum_i softmax(scores)_i rows_i over real tokens: (N, L, D), (N, L) -> (N, D)."""
    weights = scores.masked_fill(~mask, -1e9).softmax(dim=-1)
    return einsum("nl,nld->nd", weights, rows)

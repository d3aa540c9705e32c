"""Pooling over a row's real tokens, so that padding changes nothing."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, einsum, inf, nn

from datamodules.features import Features
from pollinate.errors import UsageError


def masked_mean(rows: Tensor, mask: Tensor) -> Tensor:
    """Mean over the tokens where the mask is True, 0 if there are none: (N, L, D) -> (N, D)."""
    return (rows * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True).clamp(min=1)


def masked_max(rows: Tensor, mask: Tensor) -> Tensor:
    """Maximum over the tokens where the mask is True, at least one per row: (N, L, D) -> (N, D)."""
    return rows.masked_fill(~mask[..., None], -inf).amax(dim=1)


def attended_mean(rows: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
    """sum_i softmax(scores)_i rows_i over real tokens: (N, L, D), (N, L) -> (N, D)."""
    # the lowest number of the type, as -inf would make NaN of a row without tokens
    weights = scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(dim=-1)
    return einsum("nl,nld->nd", weights, rows)


class Pooling(ABC):
    """Chooses from, or averages, a row's tokens."""

    @abstractmethod
    def __call__(self, rows: Tensor, mask: Tensor) -> Tensor:
        """Pool (N, L, D) with mask (N, L): (N, D)."""


class MeanPooling(Pooling):
    """The mean of the real tokens."""

    def __call__(self, rows: Tensor, mask: Tensor) -> Tensor:
        return masked_mean(rows, mask)


class FirstToken(Pooling):
    """The first token, which many encoders keep for the whole text."""

    def __call__(self, rows: Tensor, mask: Tensor) -> Tensor:
        return rows[:, 0]


class LastToken(Pooling):
    """The last real token, the only one that has seen the whole text in a decoder."""

    def __call__(self, rows: Tensor, mask: Tensor) -> Tensor:
        last = mask.sum(dim=1).clamp(min=1) - 1
        return rows[torch.arange(len(rows), device=rows.device), last]


POOLINGS: dict[str, type[Pooling]] = {"mean": MeanPooling, "cls": FirstToken, "last": LastToken}


def pooling_named(name: str) -> Pooling:
    """Return a pooling by its name.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in POOLINGS:
        raise UsageError(f"pooling must be one of {', '.join(POOLINGS)}, got {name}")
    return POOLINGS[name]()


def project_rows(project: nn.Module, features: Features) -> Features:
    """Put a linear layer on the pooled vectors and on those of the tokens, if these are given."""
    sequence = None if features.sequence is None else project(features.sequence)
    return Features(project(features.pooled), sequence, mask=features.mask)

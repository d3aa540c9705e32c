"""One vector a row from those of its tokens."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from lightning_modules.encoders.padding import masked_mean
from lightning_modules.features import Features
from pipeline.errors import UsageError


class Pooling(ABC):
    """Chooses from, or averages, a row's tokens."""

    @abstractmethod
    def __call__(self, rows: Tensor, mask: Tensor) -> Tensor:
        """Pool (N, L, D) with mask (N, L): (N, D)."""


class Mean(Pooling):
    """The mean of the real tokens."""

    def __call__(self, rows: Tensor, mask: Tensor) -> Tensor:
        """Pool (N, L, D) with mask (N, L): (N, D)."""
        return masked_mean(rows, mask)


class First(Pooling):
    """The first token, which many encoders keep for the whole text."""

    def __call__(self, rows: Tensor, mask: Tensor) -> Tensor:
        """Pool (N, L, D) with mask (N, L): (N, D)."""
        return rows[:, 0]


class Last(Pooling):
    """The last real token, the only one that has seen the whole text in a decoder."""

    def __call__(self, rows: Tensor, mask: Tensor) -> Tensor:
        """Pool (N, L, D) with mask (N, L): (N, D)."""
        last = mask.sum(dim=1).clamp(min=1) - 1
        return rows[torch.arange(len(rows), device=rows.device), last]


POOLINGS: dict[str, type[Pooling]] = {"mean": Mean, "cls": First, "last": Last}


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

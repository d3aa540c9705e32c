"""What is compared: features of the same rows, of this run and of a source."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional

from lightning_modules.transfer.base import TransferStep


def same_sides(own: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Average the larger of two grids (..., H, W) down to the other's height and width."""
    height, width = map(min, own.shape[-2:], other.shape[-2:])
    first = functional.adaptive_avg_pool2d(own, (height, width))
    return first, functional.adaptive_avg_pool2d(other, (height, width))


@dataclass(frozen=True)
class Pair:
    """Features of the same n rows.

    own: (n, D), (n, L, D) of tokens, or (n, D, H, W); with a gradient.
    other: of the source, alike but for D, H and W; without one.
    rows: of all processes, >= 1.
    mask: (n, L) bool, True where tokens are real, or None.
    counts: rows that one of the n counts as: words and cells share the weight of their row.
    """

    own: Tensor
    other: Tensor
    rows: int
    mask: Tensor | None = None
    counts: float = 1.0

    def precise(self) -> Self:
        """Return it with 32 bits or more, for differences and products of large numbers."""
        kind = torch.promote_types(self.own.dtype, torch.float32)
        return replace(self, own=self.own.to(kind), other=self.other.to(kind))


class Pairs(ABC):
    """Finds pairs in a step.

    Attributes:
        of_tasks: whether a pair's name is that of the task whose head reads ``own``; False: it
            belongs to no task.
    """

    of_tasks: bool

    @abstractmethod
    def find(self, step: TransferStep) -> dict[str, Pair]:
        """Return {name: pair} of what the step has; the same names in all processes."""

    @abstractmethod
    def whose(self, name: str) -> str:
        """Return what the other features of a pair are of, for people."""

    def wanted(self, sizes: Mapping[str, int]) -> list[str]:
        """Return tasks whose heads must read a step with these rows, labelled or not."""
        return []

"""DARE: drop and rescale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from zlib import crc32

import torch
from torch import Tensor

from lightning_modules.merging.models import Models, ResultTensor
from lightning_modules.merging.task_vectors import TaskVectorMerge
from pollinate.errors import UsageError


class Dare(TaskVectorMerge):
    """theta = theta_0 + s sum_i m_i tau_i / (1 - p), m_i drawn from Bernoulli(1 - p) by entry.

    Source: Yu et al. 2024, "Language models are super Mario", section 3.2, followed by task
    arithmetic. What is dropped depends on the seed, the tensor's name and the model's place alone.

    Args:
        drop: p, share of the entries that are dropped, in [0, 1).
        scale: s; if several, the best on validation data is used.
        seed: of the draws, >= 0.

    Raises:
        UsageError: drop is out of its range.

    Examples:
        >>> import torch, pollinate as po
        >>> base, a = {"w": torch.zeros(10000)}, {"w": torch.ones(10000)}
        >>> method = po.merging.Dare(drop=0.9, scale=1.0)
        >>> found = method.merge_state_dicts({"a": a}, base).state["w"]
        >>> found.unique()  # what is left is ten times as large
        tensor([ 0., 10.])
    """

    def __init__(
        self, drop: float = 0.9, scale: float | Sequence[float] = 0.3, seed: int = 0
    ) -> None:
        super().__init__(scale)
        if not 0 <= drop < 1:
            raise UsageError(f"drop must be in [0, 1), got {drop}")
        self.drop = drop
        self.seed = seed

    def details(self, models: Models) -> dict[str, Any]:
        return {"drop": self.drop, "seed": self.seed}

    def combine(self, taus: Sequence[Tensor], unit: ResultTensor, first: int) -> Tensor:
        """Return the sum of what stays, rescaled."""
        total = torch.zeros_like(taus[0])
        for owner, tau in zip(unit.owners, taus, strict=True):
            key = crc32(f"{self.seed}/{unit.name}/{owner}/{first}".encode())
            draws = torch.rand(len(tau), generator=torch.Generator().manual_seed(key))
            total += tau.where(draws >= self.drop, 0.0) / (1 - self.drop)
        return total

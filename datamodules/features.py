"""What an encoder gives to the trunk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pollinate.errors import UsageError


@dataclass
class Features:
    """Representation of N rows.

    pooled: (N, D), one vector a row.
    sequence: (N, L, D), one vector a token, or None.
    grid: (N, D, H, W), one vector a cell, or None.
    mask: (N, L) bool, True where ``sequence`` holds a real token, or None.

    Examples:
        >>> import torch, pollinate as po
        >>> tokens = torch.randn(2, 6, 8)  # 2 rows of 6 tokens
        >>> features = po.Features(pooled=tokens.mean(dim=1), sequence=tokens)
        >>> features.pooled.shape, features.grid
        (torch.Size([2, 8]), None)
    """

    pooled: Tensor
    sequence: Tensor | None = None
    grid: Tensor | None = None
    mask: Tensor | None = None

    def map_tensors(self, function: Callable[[Tensor], Tensor]) -> Features:
        """Return the same with other tensors; ``function`` makes one out of each."""
        others = (self.sequence, self.grid, self.mask)
        return Features(
            function(self.pooled), *[None if one is None else function(one) for one in others]
        )

    def at_rows(self, has: Tensor) -> Features:
        """Return the same with rows of zeros between: (N_m, ...) -> (N, ...).

        Args:
            has: (N,) bool, True at the N_m rows that there are.
        """

        def spread(rows: Tensor) -> Tensor:
            full = rows.new_zeros((len(has), *rows.shape[1:]))
            return full.index_put((has.nonzero()[:, 0],), rows)

        found = self.map_tensors(spread)
        if found.mask is not None:
            found.mask[:, 0] |= ~has  # attention over no token at all is no number
        return found


class PooledOnly(Features):
    """Features of which tokens and cells were left out."""

    def map_tensors(self, function: Callable[[Tensor], Tensor]) -> Features:
        return PooledOnly(function(self.pooled))

    def at_rows(self, has: Tensor) -> Features:
        full = self.pooled.new_zeros((len(has), *self.pooled.shape[1:]))
        return PooledOnly(full.index_put((has.nonzero()[:, 0],), self.pooled))

    def __getattribute__(self, name: str) -> Any:
        """Refuse what was left out."""
        if name in ("sequence", "grid", "mask"):
            raise UsageError(
                f"features.{name} of a frozen encoder was not kept, since no trunk, fusion or view "
                "says that it reads it; set reads_tokens = True (a view: reads_tokens_of) in the "
                "class that does, or encoder.MODALITY.tune.cache=false"
            )
        return super().__getattribute__(name)


def concat_features(parts: Sequence[Features]) -> Features:
    """Put features of the same kind under each other; tokens are padded with 0 to the longest."""
    if len(parts) == 1:
        return parts[0]
    grids = [one.grid for one in parts if one.grid is not None]
    return Features(
        torch.cat([one.pooled for one in parts]),
        pad_and_concat([one.sequence for one in parts if one.sequence is not None]),
        torch.cat(grids) if grids else None,
        pad_and_concat([one.mask for one in parts if one.mask is not None]),
    )


def pad_and_concat(tables: Sequence[Tensor]) -> Tensor | None:
    """Return (sum N_i, longest L, ...) for (N_i, L_i, ...), None for nothing."""
    if not tables:
        return None
    longest = max(table.shape[1] for table in tables)
    shape = (sum(map(len, tables)), longest, *tables[0].shape[2:])
    found, start = tables[0].new_zeros(shape), 0
    for table in tables:
        found[start : start + len(table), : table.shape[1]] = table
        start += len(table)
    return found

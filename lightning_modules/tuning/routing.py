"""Which rows of an encoder's call belong to which task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby

import torch
from torch import Tensor

from lightning_modules.features import Features
from pipeline.errors import UsageError

Shares = tuple[tuple[str, int], ...]  # ((task, its rows), ...), in the order of the rows


class Routing:
    """Told by the network before each call of an encoder, asked by the adapters inside it."""

    def __init__(self) -> None:
        self.shares: Shares = ()

    def call(
        self,
        encoder: Callable[[Tensor], Features],
        inputs: Tensor,
        shares: Sequence[tuple[str, int]],
    ) -> Features:
        """Encode rows, each by its task's adapters.

        Args:
            encoder: whose adapters ask here.
            inputs: (N, ...).
            shares: (task, rows of it), one after the other; N rows in all.
        """
        self.shares = merged(shares)
        features = encoder(inputs)
        self._remember(features)
        return features

    def split(self, rows: Tensor) -> list[tuple[str, Tensor]]:
        """Return (task, its rows) of a layer's input (k N, ...): a row may have become k.

        Nothing is returned for a call without rows, which some encoders make up one for.

        Raises:
            UsageError: the layer's first axis isn't that of the rows.
        """
        total = sum(count for _, count in self.shares)
        if not total:
            return []
        times, rest = divmod(len(rows), total)
        if rest:
            raise UsageError(
                f"adapters a task need layers that see row by row, but one of shape "
                f"{tuple(rows.shape)} is given for {total} rows; leave it out of tune.targets"
            )
        parts = torch.split(rows, [count * times for _, count in self.shares])
        return [(task, part) for (task, _), part in zip(self.shares, parts, strict=True)]

    def _remember(self, features: Features) -> None:
        """Let the backward of a call, which may compute it again, find the call's own rows."""
        shares = self.shares

        def restore(_: Tensor) -> None:
            self.shares = shares

        for found in (features.pooled, features.sequence, features.grid):
            if found is not None and found.requires_grad:
                found.register_hook(restore)  # type: ignore[no-untyped-call]  # torch's is not annotated


def merged(shares: Sequence[tuple[str, int]]) -> Shares:
    """Leave out tasks without rows, and add up neighbours of one task."""
    groups = groupby((share for share in shares if share[1]), key=lambda share: share[0])
    return tuple((task, sum(count for _, count in group)) for task, group in groups)

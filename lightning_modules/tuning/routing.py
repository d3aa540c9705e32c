"""Which rows of an encoder's call belong to which task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_modules.features import Features
from pipeline.errors import UsageError

Shares = Sequence[tuple[str, int]]  # (task, its rows), one after the other


@dataclass(frozen=True)
class Assignment:
    """The rows of one call.

    shares: of the tasks that have rows.
    tasks: their names, each once.
    places: (N,) int64, the place in ``tasks`` of each row's.
    """

    shares: Shares
    tasks: tuple[str, ...]
    places: Tensor

    @classmethod
    def of(cls, shares: Shares, device: torch.device | None = None) -> Assignment:
        """Assign rows; tasks without any are left out."""
        held = [(task, count) for task, count in shares if count]
        tasks = tuple(dict.fromkeys(task for task, _ in held))
        places = [tasks.index(task) for task, count in held for _ in range(count)]
        return cls(held, tasks, torch.tensor(places, dtype=torch.int64, device=device))


class Routing:
    """Told by the network before each call of an encoder, asked by the adapters inside it."""

    def __init__(self) -> None:
        self.now = Assignment.of(())

    def __deepcopy__(self, _: dict[int, Any]) -> Routing:
        """Return a new one: a network's copy has calls of its own."""
        return Routing()

    def call(
        self, encoder: Callable[[Tensor], Features], inputs: Tensor, shares: Shares
    ) -> Features:
        """Encode rows, each by its task's adapters.

        Args:
            encoder: whose adapters ask here.
            inputs: (N, ...).
            shares: of the N rows.
        """
        self.now = Assignment.of(shares, inputs.device)
        features = encoder(inputs)
        self._remember(features)
        return features

    def times(self, rows: Tensor) -> int:
        """Return k of a layer's input (k N, ...): windows of a picture, say, a row; 0 without rows.

        A call without rows, for which an encoder makes up one, has no task.

        Raises:
            UsageError: the layer's first axis isn't that of the rows.
        """
        total = len(self.now.places)
        if not total:
            return 0
        times, rest = divmod(len(rows), total)
        if rest:
            raise UsageError(
                f"adapters a task need layers that see row by row, but one of shape "
                f"{tuple(rows.shape)} is given for {total} rows; leave it out of tune.targets"
            )
        return times

    def _remember(self, features: Features) -> None:
        """Let the backward of a call, which may compute it again, find the call's own rows."""
        now = self.now

        def restore(_: Tensor) -> None:
            self.now = now

        for found in (features.pooled, features.sequence, features.grid):
            if found is not None and found.requires_grad:
                found.register_hook(restore)  # type: ignore[no-untyped-call]  # torch's is not annotated

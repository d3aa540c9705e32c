"""Which rows of an encoder's call belong to which task."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from datamodules.features import Features
from pollinate.errors import UsageError

PICTURES = 4  # axes of a batch of them
Shares = Sequence[tuple[str, int]]  # (task, its rows), one after the other


@dataclass(frozen=True)
class RowAssignment:
    """The rows of one call.

    shares: of the tasks that have rows.
    tasks: their names, each once.
    places: (N,) int64, the place in ``tasks`` of each row's.
    cut: whether a network may cut each row into several, as windows of a picture.
    """

    shares: Shares
    tasks: tuple[str, ...]
    places: Tensor
    cut: bool = False

    @classmethod
    def of(
        cls, shares: Shares, device: torch.device | None = None, cut: bool = False
    ) -> RowAssignment:
        """Assign rows; tasks without any are left out."""
        held = [(task, count) for task, count in shares if count]
        tasks = tuple(dict.fromkeys(task for task, _ in held))
        places = [tasks.index(task) for task, count in held for _ in range(count)]
        return cls(held, tasks, torch.tensor(places, dtype=torch.int64, device=device), cut)


class Routing:
    """Told by the network before each call of an encoder, asked by the adapters inside it.

    Args:
        kinds: last parts of the names of the layers that have adapters, for messages.
    """

    def __init__(self, kinds: Iterable[str] = ()) -> None:
        self.kinds = tuple(kinds)
        self.now = RowAssignment.of(())

    def __deepcopy__(self, _: dict[int, Any]) -> Routing:
        """Return a new one: a network's copy has calls of its own."""
        return Routing(self.kinds)

    def call(
        self, encoder: Callable[[Tensor], Features], inputs: Tensor, shares: Shares
    ) -> Features:
        """Encode rows, each by its task's adapters.

        Args:
            encoder: whose adapters ask here.
            inputs: (N, ...).
            shares: of the N rows.
        """
        self.now = RowAssignment.of(shares, inputs.device, cut=inputs.ndim == PICTURES)
        features = encoder(inputs)
        self._remember(features)
        return features

    def times(self, rows: Tensor, layer: str) -> int:
        """Return k of a layer's input (k N, ...): windows of a picture, say, a row; 0 without rows.

        A call without rows, for which an encoder makes up one, has no task. Of texts and sounds,
        rows laid end to end are (k N, D); (k N, L, D) would be tokens that come before rows.

        Args:
            rows: the layer's input.
            layer: its name, for the message.

        Raises:
            UsageError: the layer's first axis isn't that of the rows.
        """
        total = len(self.now.places)
        if not total:
            return 0
        times, rest = divmod(len(rows), total)
        if rest or (times > 1 and rows.ndim > 2 and not self.now.cut):
            others = [kind for kind in self.kinds if kind != layer.rpartition(".")[2]]
            raise UsageError(
                f"adapters per task need layers that see row by row, but {layer} is given "
                f"{tuple(rows.shape)} for {total} rows; leave it out: "
                f"tune.targets=[{', '.join(others)}]"
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

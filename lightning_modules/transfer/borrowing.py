"""What sources lend to what heads read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from lightning_modules.transfer.lender import Lender
from lightning_modules.trunks.load import Load
from lightning_modules.views.base import Seen, View

OWN = "own"  # what this run's trunk makes, among the sources


class Mixer(nn.Module, ABC):
    """Puts one task's rows and what sources make of them together.

    Args:
        dim: width D of the rows.
        widths: {source: width D_s of what it lends}.
    """

    def __init__(self, dim: int, widths: Mapping[str, int]) -> None:
        super().__init__()
        self.sources = (OWN, *widths)
        # a source's features have any scale
        self.project = nn.ModuleDict(
            {s: nn.Sequential(nn.LayerNorm(w), nn.Linear(w, dim)) for s, w in widths.items()}
        )

    def candidates(self, rows: Tensor, lent: Mapping[str, Tensor]) -> Tensor:
        """Return the rows, and what each source makes of them, in one width: (N, 1 + S, D)."""
        found = [self.project[s](lent[s].to(rows.dtype)) for s in self.sources[1:]]
        return torch.stack([rows, *(one.to(rows.dtype) for one in found)], dim=1)

    @abstractmethod
    def forward(self, rows: Tensor, lent: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return what the head reads (N, D), and the weights of ``sources`` (N, 1 + S).

        Args:
            rows: (N, D) of the trunk.
            lent: {source: (N, D_s)}.
        """


class Borrowing(nn.Module):
    """Between trunk and heads: each task mixes its rows with what sources make of the same rows.

    Args:
        lenders: {source: its encoders}.
        mixers: {task: how it mixes}, of the tasks that borrow.

    Attributes:
        claimed: whether a run's transfer method has made it its own.
    """

    def __init__(self, lenders: Mapping[str, Lender], mixers: Mapping[str, Mixer]) -> None:
        super().__init__()
        self.lenders = nn.ModuleDict(dict(lenders))
        self.mixers = nn.ModuleDict(dict(mixers))
        self._load = Load(("source", "source_load"))
        self.claimed = False

    def see(self, seen: Mapping[str, Seen]) -> dict[str, dict[str, Seen]]:
        """Return {source: {key: what it makes of these rows}}."""
        batches = {key: one.batch for key, one in seen.items()}
        return {name: lender(batches) for name, lender in self.lenders.items()}

    def forward(
        self,
        task: str,
        rows: Tensor,
        view: View,
        keys: Sequence[str],
        lent: Mapping[str, Mapping[str, Seen]],
    ) -> Tensor:
        """Return what the task's head reads: (N, D).

        Args:
            task: its name.
            rows: (N, D) of the trunk.
            view: as what the task sees its rows.
            keys: of its data sets, in order.
            lent: what ``see`` returned.
        """
        if task not in self.mixers:
            return rows
        mixer = self.mixers[task]
        assert isinstance(mixer, Mixer)
        found = {s: viewed(view, [lent[s][key] for key in keys]) for s in mixer.sources[1:]}
        mixed, weights = mixer(rows, found)
        self._load.note(task, mixer.sources, weights)
        read: Tensor = mixed
        return read

    def gauges(self) -> dict[str, float]:
        """Return the last step's mean weights: ``source/<task>/<source>``."""
        return self._load.read(self._load.tasks)


def viewed(view: View, seen: Sequence[Seen]) -> Tensor:
    """Return rows, words or cells as a task sees them: (N, D_s)."""
    return torch.cat([group.pooled for one in seen for group in view.groups(one).values()])

"""Trunks that give each task a representation of its own."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor

from lightning_modules.features import Features
from lightning_modules.trunks.base import Parts, Routes, Trunk

States = Mapping[str, Tensor]  # {name: (N, D)}, representations of the same rows
ROWS = "rows"  # the name of x


class PerTask(Trunk):
    """z = common(x) of all rows together, then r_t = own_t(z) of the rows of task t.

    ``common`` has what several tasks' gradients can reach, whatever tasks a step has; ``own``
    alone may use what belongs to one task, so that nothing of an absent task gets a gradient.
    """

    @abstractmethod
    def common(self, rows: Tensor) -> States:
        """Return what tasks read of all rows: (N, D) -> {name: (N, D)}."""

    @abstractmethod
    def own(self, task: str, states: States) -> Tensor:
        """Return the task's representation of its n rows: {name: (n, D)} -> (n, D)."""

    def forward(self, features: Mapping[str, Features], routes: Routes) -> Parts:
        """Encode all rows together, then each task's."""
        states = self.common(torch.cat([item.pooled for item in features.values()]))
        sizes = [len(item.pooled) for item in features.values()]
        pieces = {
            name: dict(zip(features, torch.split(rows, sizes), strict=True))
            for name, rows in states.items()
        }
        found: Parts = {}
        for task, names in routes.items():
            groups = [name for name in names if name in features]
            if groups:
                read = {name: joined([piece[g] for g in groups]) for name, piece in pieces.items()}
                own = [len(features[group].pooled) for group in groups]
                found[task] = list(torch.split(self.own(task, read), own))
        return found


def joined(parts: list[Tensor]) -> Tensor:
    """Put the rows of several data sets under each other."""
    return torch.cat(parts) if len(parts) > 1 else parts[0]

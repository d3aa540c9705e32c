"""Soft parameter sharing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from itertools import combinations

import torch
from torch import Tensor, nn

from lightning_modules.distributed import full_weight
from lightning_modules.trunks.base import ROWS, PerTaskTrunk, RowStates, require_at_least
from lightning_modules.trunks.shared import tower


class SoftSharing(PerTaskTrunk):
    """A trunk for each task, r_t = f(x; theta_t), drawn to those of the other tasks.

    penalty: strength / 2 times the sum over pairs of tasks of ||theta_t - theta_u||^2. Towers start
    alike, and no task's loss reaches another's tower. A task that a step lacks stands still: the
    others are drawn to it. Source: Duong et al. 2015, "Low resource dependency parsing:
    Cross-lingual parameter sharing in a neural network parser", for two parsers.

    Args:
        tasks: names of all tasks.
        dim: width D of the features.
        depth: residual blocks of each tower, >= 0.
        dropout: as for the shared trunk.
        strength: factor of the penalty, >= 0; 0: only the encoders are shared.

    Raises:
        UsageError: strength < 0.

    Examples:
        >>> import torch, pollinate as po
        >>> trunk = po.trunks.SoftSharing(["mood", "stars"], dim=8, strength=0.1)
        >>> rows = {"reviews": po.Features(torch.ones(4, 8))}
        >>> parts = trunk(rows, {"mood": ["reviews"], "stars": ["reviews"]})
        >>> parts["mood"][0].shape
        torch.Size([4, 8])
        >>> trunk.penalty(["mood", "stars"]).item()  # towers start alike
        0.0
    """

    def __init__(
        self,
        tasks: Sequence[str],
        dim: int,
        depth: int = 1,
        dropout: float = 0.1,
        strength: float = 1e-3,
    ) -> None:
        super().__init__(tasks)
        require_at_least(0, strength=strength)
        self.strength = strength
        first = tower(dim, depth, dropout)
        self.towers = nn.ModuleDict({task: deepcopy(first) for task in self.tasks})

    def common(self, rows: Tensor) -> RowStates:
        """Return the rows: no more is shared."""
        return {ROWS: rows}

    def own(self, task: str, states: RowStates) -> Tensor:
        rows: Tensor = self.towers[task](states[ROWS])
        return rows

    def penalty(self, tasks: Sequence[str]) -> Tensor | None:
        """Return the distances of the pairs that one of ``tasks`` is in."""
        weights = {
            task: torch.cat([full_weight(p).flatten() for p in self.towers[task].parameters()])
            for task in self.tasks
        }
        moving = {task: w if task in tasks else w.detach() for task, w in weights.items()}
        pairs = [pair for pair in combinations(self.tasks, 2) if set(pair) & set(tasks)]
        if not pairs:
            return None
        distances = [(moving[t] - moving[u]).square().sum() for t, u in pairs]
        return self.strength / 2 * torch.stack(distances).sum()

    def shared_parameters(self) -> Iterator[nn.Parameter]:
        """Yield nothing: each tower belongs to one task."""
        return iter(())

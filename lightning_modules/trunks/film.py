"""Feature-wise linear modulation by the task."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from lightning_modules.trunks.base import ROWS, PerTaskTrunk, RowStates, require_at_least
from lightning_modules.trunks.shared import ResidualBlock


class FiLM(PerTaskTrunk):
    """x <- gamma_tl * block_l(x) + beta_tl: shared blocks whose outputs each task scales, shifts.

    Source: Perez et al. 2018, "FiLM: Visual reasoning with a general conditioning layer",
    equations 1 and 2; the condition is the task, so that gamma and beta are tables. gamma is held
    as 1 + scale: weight decay draws it to 1, to no condition. A task's rows go through the blocks
    once for each task that reads them.

    Args:
        tasks: names of all tasks.
        dim: width D of the features.
        depth: blocks, >= 1.
        dropout: as for the shared trunk.

    Raises:
        UsageError: depth < 1.

    Examples:
        >>> import torch, pollinate as po
        >>> trunk = po.trunks.FiLM(["mood", "stars"], dim=8, depth=2)
        >>> rows = {"reviews": po.Features(torch.ones(4, 8))}
        >>> parts = trunk(rows, {"mood": ["reviews"], "stars": ["reviews"]})
        >>> parts["mood"][0].shape
        torch.Size([4, 8])
        >>> own = set(trunk.parameters()) - set(trunk.shared_parameters())
        >>> sum(one.numel() for one in own)  # 2 tasks, 2 blocks, a scale and a shift of 8 numbers
        64
    """

    def __init__(
        self, tasks: Sequence[str], dim: int, depth: int = 2, dropout: float = 0.1
    ) -> None:
        super().__init__(tasks)
        require_at_least(1, depth=depth)
        self.blocks = nn.ModuleList(ResidualBlock(dim, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)
        self.scales = nn.ParameterDict({t: torch.zeros(depth, dim) for t in self.tasks})
        self.shifts = nn.ParameterDict({t: torch.zeros(depth, dim) for t in self.tasks})

    def common(self, rows: Tensor) -> RowStates:
        """Return the rows: from the first block on, each task has its own."""
        return {ROWS: rows}

    def own(self, task: str, states: RowStates) -> Tensor:
        rows = states[ROWS]
        condition = zip(self.scales[task], self.shifts[task], strict=True)
        for block, (scale, shift) in zip(self.blocks, condition, strict=True):
            rows = (1 + scale) * block(rows) + shift
        normed: Tensor = self.norm(rows)
        return normed

    def shared_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters of blocks and norm."""
        yield from self.blocks.parameters()
        yield from self.norm.parameters()

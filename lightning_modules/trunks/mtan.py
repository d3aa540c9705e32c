"""Multi-task attention network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from lightning_modules.trunks.base import PerTaskTrunk, RowStates, require_at_least
from lightning_modules.trunks.shared import ResidualBlock


class MTAN(PerTaskTrunk):
    """One shared stack of blocks; each task masks the output of each block.

    With p_0 = x, p_j the output of block j and u_j = p_(j-1) its input,

        m_tj = sigmoid(H_tj gelu(G_tj norm([u_j; f_j(v_t(j-1))])))     without f in the first block
        v_tj = m_tj * p_j,   r_t = norm_t(v_t,depth)

    Source: Liu, Johns and Davison 2019, "End-to-end multi-task learning with attention", equations
    1 and 2. There, f, G and H are convolutions on maps and u is inside a block; here they are
    linear layers on one vector per row. f, which belongs to no task, is shared as there.

    Args:
        tasks: names of all tasks.
        dim: width D of the features.
        depth: blocks, >= 1.
        dropout: as for the shared trunk.

    Raises:
        UsageError: depth < 1.

    Examples:
        >>> import torch, pollinate as po
        >>> trunk = po.trunks.MTAN(["mood", "stars"], dim=8, depth=2)
        >>> rows = {"reviews": po.Features(torch.ones(4, 8))}
        >>> parts = trunk(rows, {"mood": ["reviews"], "stars": ["reviews"]})
        >>> parts["mood"][0].shape
        torch.Size([4, 8])
        >>> list(trunk.masks), len(trunk.blocks)  # masks a task, blocks for all
        (['mood', 'stars'], 2)
    """

    def __init__(
        self, tasks: Sequence[str], dim: int, depth: int = 2, dropout: float = 0.1
    ) -> None:
        super().__init__(tasks)
        require_at_least(1, depth=depth)
        self.blocks = nn.ModuleList(ResidualBlock(dim, dropout) for _ in range(depth))
        self.between = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim), nn.GELU())
            for _ in range(depth - 1)
        )
        self.masks = nn.ModuleDict(
            {
                task: nn.ModuleList(mask(dim, 2 if j else 1) for j in range(depth))
                for task in self.tasks
            }
        )
        self.norms = nn.ModuleDict({task: nn.LayerNorm(dim) for task in self.tasks})

    def common(self, rows: Tensor) -> RowStates:
        """Run the shared blocks: ``0`` is x, ``j`` the output of block j."""
        states = {"0": rows}
        for number, block in enumerate(self.blocks, 1):
            states[str(number)] = rows = block(rows)
        return states

    def own(self, task: str, states: RowStates) -> Tensor:
        inputs, masked = states["0"], states["0"]
        for number, attention in enumerate(self.masks[task].children()):
            if number:
                earlier = self.between[number - 1](masked)
                inputs = torch.cat([states[str(number)], earlier], dim=1)
            masked = attention(inputs) * states[str(number + 1)]
        rows: Tensor = self.norms[task](masked)
        return rows

    def shared_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters of the blocks and of f."""
        yield from self.blocks.parameters()
        yield from self.between.parameters()


def mask(dim: int, inputs: int) -> nn.Sequential:
    """Return sigmoid(H gelu(G norm(z))): (N, inputs * dim) -> (N, dim) in (0, 1)."""
    return nn.Sequential(
        nn.LayerNorm(inputs * dim),
        nn.Linear(inputs * dim, dim),
        nn.GELU(),
        nn.Linear(dim, dim),
        nn.Sigmoid(),
    )

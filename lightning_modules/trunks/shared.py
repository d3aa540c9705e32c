"""Hard parameter sharing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from datamodules.features import Features
from lightning_modules.trunks.base import Parts, Routes, Trunk, route


class SharedTrunk(Trunk):
    """One stack of residual blocks that the rows of all tasks go through in one call.

    x <- x + W2 drop(gelu(W1 norm(x))), repeated ``depth`` times, then a last norm; of depth 0, x as
    it is: the heads read what the encoders give. Source: hard
    parameter sharing, Caruana 1997; pre-norm residual blocks, Xiong et al. 2020.

    Args:
        tasks: names of all tasks.
        dim: width D of the features, >= 1.
        depth: number of blocks, >= 0.
        dropout: share of hidden units left out in training, in [0, 1).

    Examples:
        >>> import torch, pollinate as po
        >>> trunk = po.trunks.SharedTrunk(["mood", "stars"], dim=8, depth=2)
        >>> rows = {"reviews": po.Features(torch.ones(4, 8))}
        >>> parts = trunk(rows, {"mood": ["reviews"], "stars": ["reviews"]})
        >>> parts["mood"][0].shape, parts["mood"][0] is parts["stars"][0]
        (torch.Size([4, 8]), True)
    """

    same_for_all = True

    def __init__(
        self, tasks: Sequence[str], dim: int, depth: int = 1, dropout: float = 0.1
    ) -> None:
        super().__init__(tasks)
        self.blocks = nn.Sequential(*(ResidualBlock(dim, dropout) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim) if depth else nn.Identity()

    def forward(self, features: Mapping[str, Features], routes: Routes) -> Parts:
        """Encode all rows together, then hand each task its own."""
        rows = self.norm(self.blocks(torch.cat([item.pooled for item in features.values()])))
        parts = rows.split([len(item.pooled) for item in features.values()])
        return route(dict(zip(features, parts, strict=True)), routes)

    def shared_parameters(self) -> Iterator[nn.Parameter]:
        """Yield every parameter: all are shared."""
        return self.parameters()


class ResidualBlock(nn.Module):
    """x + W2 drop(gelu(W1 norm(x))): (N, dim) -> (N, dim)."""

    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.LayerNorm(dim),
            nn.Linear(dim, 2 * dim),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(2 * dim, dim),
        )

    def forward(self, rows: Tensor) -> Tensor:
        """Return x plus its correction."""
        correction: Tensor = self.layers(rows)
        return rows + correction


def tower(dim: int, depth: int, dropout: float) -> nn.Sequential:
    """Return what a shared trunk is: ``depth`` residual blocks and a norm, (N, dim) -> (N, dim)."""
    return nn.Sequential(*(ResidualBlock(dim, dropout) for _ in range(depth)), nn.LayerNorm(dim))

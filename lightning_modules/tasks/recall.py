"""How often the right partner is among the best k."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from lightning_modules.gather import gathered

CHUNK = 1024  # rows whose similarities to all others are in memory at a time


def ranks(queries: Tensor, targets: Tensor) -> Tensor:
    """Return how many targets lie before each query's own: (N, E), (N, E) -> (N,) float64.

    Targets as similar as the right one count half, so that equal vectors rank in the middle.
    """
    found = []
    for start in range(0, len(queries), CHUNK):
        similar = queries[start : start + CHUNK] @ targets.T
        own = similar.diagonal(start)[:, None]
        better, equal = (similar > own).sum(dim=1), (similar == own).sum(dim=1) - 1
        found.append(better.double() + equal.double() / 2)
    return torch.cat(found) if found else queries.new_zeros(0, dtype=torch.float64)


class Recall(Metric):
    """Share of rows whose partner is among the k most similar of all rows, mean of both ways.

    Args:
        k: >= 1.
        width: E of the vectors, >= 1.
    """

    full_state_update = False

    def __init__(self, k: int, width: int) -> None:
        super().__init__()
        self.k = k
        self.width = width
        # flat: a process without rows gives an empty list, for which torchmetrics sends shape (0,)
        self.add_state("pairs", [], dist_reduce_fx="cat")
        self.pairs: list[Tensor] | Tensor

    def update(self, output: Tensor, target: Tensor) -> None:
        """Add pairs of vectors: (N, 2, E)."""
        assert isinstance(self.pairs, list)  # a tensor only while the processes compute
        self.width = output.shape[-1]  # of an ensemble, those of all members together
        self.pairs.append(output.detach().float().flatten())

    def compute(self) -> Tensor:
        """Return the share over all pairs that were added."""
        if not len(self.pairs):
            return torch.zeros(())
        first, second = dim_zero_cat(self.pairs).view(-1, 2, self.width).unbind(dim=1)
        both = torch.cat([ranks(first, second), ranks(second, first)])
        return (both < self.k).double().mean()


class BatchRecall(Metric):
    """``Recall`` among the rows of each update alone, on all processes, which needs no memory.

    Attributes:
        collective: every process must call ``update``, also without rows.
    """

    full_state_update = False
    collective = True

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = k
        for name in ("hits", "rows"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.hits: Tensor
        self.rows: Tensor

    def update(self, output: Tensor, target: Tensor) -> None:
        """Add pairs of vectors: (N, 2, E)."""
        pairs, start = gathered(output.detach().float())
        first, second = pairs.unbind(dim=1)
        own = slice(start, start + len(output))
        both = torch.cat([ranks(first, second)[own], ranks(second, first)[own]])
        self.hits += (both < self.k).sum()
        self.rows += len(both)

    def compute(self) -> Tensor:
        """Return the share."""
        return self.hits / self.rows.clamp(min=1)

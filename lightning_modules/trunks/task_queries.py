"""Each task attends to the rows with its own query."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from datamodules.features import Features
from lightning_modules.cross_attention import CrossAttention, all_vectors
from lightning_modules.trunks.base import Parts, Routes, Trunk
from lightning_modules.trunks.gauges import AttentionStats
from lightning_modules.trunks.shared import tower


class TaskQueries(Trunk):
    """r_t = f(p + attention(q_t, [p; F])): p is the pooled vector of a row, F its tokens or cells.

    A task finds what it needs in a sentence or a picture, where pooling must suit all tasks. Where
    an encoder gives no F, and for several fused modalities, attention is a linear layer on p.
    Attention: Vaswani et al. 2017; learnt queries in place of computed ones: Carion et al. 2020,
    "End-to-end object detection with transformers", section 3.2. f is what the shared trunk is.

    Args:
        tasks: names of all tasks.
        dim: width D of the features.
        heads: of the attention, a divisor of dim.
        depth: residual blocks of f, >= 0.
        dropout: as for the shared trunk.

    Raises:
        UsageError: heads doesn't divide dim.

    Examples:
        >>> import torch, pollinate as po
        >>> trunk = po.trunks.TaskQueries(["mood", "stars"], dim=8, heads=2)
        >>> tokens = torch.randn(4, 6, 8)  # 4 rows of 6 tokens
        >>> rows = {"reviews": po.Features(tokens.mean(dim=1), sequence=tokens)}
        >>> parts = trunk(rows, {"mood": ["reviews"], "stars": ["reviews"]})
        >>> parts["mood"][0].shape
        torch.Size([4, 8])
    """

    reads_tokens = True

    def __init__(
        self,
        tasks: Sequence[str],
        dim: int,
        heads: int = 4,
        depth: int = 1,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(tasks)
        self.attention = CrossAttention(dim, heads)
        self.tower = tower(dim, depth, dropout)
        self.queries = nn.ParameterDict({task: torch.randn(dim) for task in self.tasks})
        self._looks = AttentionStats()

    def forward(self, features: Mapping[str, Features], routes: Routes) -> Parts:
        """Let each task ask its data sets, whose keys and values are computed once."""
        asked = {name for names in routes.values() for name in names}
        memories = {
            name: (item.pooled, self.attention.learn(memory), mask)
            for name, item in features.items()
            if name in asked
            for memory, mask in [all_vectors(item)]
        }
        found: Parts = {}
        looks: dict[str, dict[str, Tensor]] = {}  # {data set: {task: (N, 1 + L)}}
        for task, names in routes.items():
            for name in (name for name in names if name in memories):
                rows, weights = self._read(self.queries[task], *memories[name])
                found.setdefault(task, []).append(rows)
                looks.setdefault(name, {})[task] = weights
        self._looks.note(looks)
        return found

    def gauges(self, tasks: Sequence[str]) -> dict[str, float]:
        """Return where tasks look, and how alike: names as in ``AttentionStats``."""
        return self._looks.read(tasks)

    def called_parts(self) -> Iterator[nn.Module]:
        """Yield the layers of the attention, whose own call isn't used, and the tower."""
        yield from self.attention.children()
        yield self.tower

    def shared_parameters(self) -> Iterator[nn.Parameter]:
        """Yield all but the queries."""
        yield from self.attention.parameters()
        yield from self.tower.parameters()

    def _read(
        self, query: Tensor, pooled: Tensor, learnt: tuple[Tensor, Tensor], mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return a task's representation of a data set's rows, and its weights: (N, D), (N, L)."""
        queries = query.expand(len(pooled), 1, -1)
        attended, weights = self.attention.look(queries, learnt, mask)
        rows: Tensor = self.tower(pooled + attended.squeeze(dim=1))
        return rows, weights.squeeze(dim=1)

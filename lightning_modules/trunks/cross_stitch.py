"""Cross-stitch units."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, einsum, nn

from lightning_modules.trunks.base import PerTaskTrunk, RowStates, require_at_least
from lightning_modules.trunks.gauges import gauge_names
from lightning_modules.trunks.shared import ResidualBlock
from pollinate.errors import UsageError


class CrossStitch(PerTaskTrunk):
    """A stack of blocks per task; after each block, x_t <- sum_u a_tu x_u.

    Source: Misra et al. 2016, "Cross-stitch networks for multi-task learning", equation 1, with one
    a a pair of tasks and layer. Towers end with a norm of their own. The rows of a task go through
    all towers, so the cost grows with the number of tasks.

    Args:
        tasks: names of all T tasks.
        dim: width D of the features.
        depth: blocks of each tower, >= 1.
        dropout: as for the shared trunk.
        own: a_tt at the start, in [0, 1]; the others share the rest, so that a row sums up to 1.

    Raises:
        UsageError: depth < 1 or own isn't in [0, 1].

    Examples:
        >>> import torch, pollinate as po
        >>> trunk = po.trunks.CrossStitch(["mood", "stars"], dim=8, own=0.75)
        >>> rows = {"reviews": po.Features(torch.ones(4, 8))}
        >>> parts = trunk(rows, {"mood": ["reviews"], "stars": ["reviews"]})
        >>> parts["mood"][0].shape
        torch.Size([4, 8])
        >>> trunk.gauges(["mood"])  # at the start
        {'gate/mood/mood': 0.75, 'gate/mood/stars': 0.25}
    """

    def __init__(
        self,
        tasks: Sequence[str],
        dim: int,
        depth: int = 1,
        dropout: float = 0.1,
        own: float = 0.9,
    ) -> None:
        super().__init__(tasks)
        require_at_least(1, depth=depth)
        self.layers = nn.ModuleList(
            nn.ModuleDict({task: ResidualBlock(dim, dropout) for task in self.tasks})
            for _ in range(depth)
        )
        # one vector per task: weight decay, which is for matrices, would draw them to 0
        self.stitches = nn.ModuleList(
            nn.ParameterDict({t: nn.Parameter(start(self.tasks, t, own)) for t in self.tasks})
            for _ in range(depth)
        )
        self.norms = nn.ModuleDict({task: nn.LayerNorm(dim) for task in self.tasks})

    def common(self, rows: Tensor) -> RowStates:
        states = dict.fromkeys(self.tasks, rows)
        for number, blocks in enumerate(self.layers):
            if number:
                states = {t: stitched(self._stitch(number - 1, t), states) for t in self.tasks}
            states = {task: block(states[task]) for task, block in blocks.named_children()}
        return states

    def own(self, task: str, states: RowStates) -> Tensor:
        """Stitch the last blocks' outputs."""
        rows: Tensor = self.norms[task](stitched(self._stitch(-1, task), states))
        return rows

    def shared_parameters(self) -> Iterator[nn.Parameter]:
        """Yield all but each task's last stitch and norm."""
        yield from self.layers.parameters()
        yield from self.stitches[:-1].parameters()

    def gauges(self, tasks: Sequence[str]) -> dict[str, float]:
        """Return the last stitches: ``gate/<task>/<task>``."""
        found: dict[str, float] = {}
        for task in tasks:
            found |= gauge_names("gate", task, self.tasks, self._stitch(-1, task).detach())
        return found

    def _stitch(self, number: int, task: str) -> Tensor:
        return self.stitches[number].get_parameter(task)


def start(tasks: Sequence[str], task: str, own: float) -> Tensor:
    """Return a task's first stitch: (T,).

    Raises:
        UsageError: own isn't in [0, 1].
    """
    if not 0 <= own <= 1:
        raise UsageError(f"own must be in [0, 1], got {own}")
    if len(tasks) == 1:
        return torch.ones(1)
    rest = (1 - own) / (len(tasks) - 1)
    return torch.tensor([own if other == task else rest for other in tasks])


def stitched(weights: Tensor, states: RowStates) -> Tensor:
    """Return sum_u a_u x_u: (T,), {task: (N, D)} -> (N, D)."""
    return einsum("t,tnd->nd", weights, torch.stack(list(states.values())))

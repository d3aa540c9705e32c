"""Customized gate control."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor, nn

from lightning_modules.trunks.base import ROWS, RowStates, require_at_least
from lightning_modules.trunks.mixture_of_experts import (
    ExpertMixture,
    Gate,
    expert_outputs,
    make_experts,
)


class CGC(ExpertMixture):
    """r_t = w_t(x) S_t(x), S_t = [own experts of t; shared experts], w_t(x) = softmax(W_t x).

    Source: Tang et al. 2020, "Progressive layered extraction (PLE)", section 4.1, equations 1
    to 3. An expert is what the shared trunk is. Gates read the encoders' features, normed.

    Args:
        tasks: names of all tasks.
        dim: width D of the features.
        shared: experts that all tasks mix, >= 1.
        own: experts that each task has for itself, >= 1; without any it is ``trunk=mmoe``.
        depth: residual blocks of an expert, >= 0.
        dropout: as for the shared trunk.

    Raises:
        UsageError: shared < 1 or own < 1.

    Examples:
        >>> import torch, pollinate as po
        >>> trunk = po.trunks.CGC(["mood", "stars"], dim=8, shared=2, own=1)
        >>> rows = {"reviews": po.Features(torch.ones(4, 8))}
        >>> parts = trunk(rows, {"mood": ["reviews"], "stars": ["reviews"]})
        >>> parts["mood"][0].shape
        torch.Size([4, 8])
        >>> [name for name in trunk.gauges(["mood"]) if name.startswith("gate")]
        ['gate/mood/own_0', 'gate/mood/shared_0', 'gate/mood/shared_1']
    """

    def __init__(
        self,
        tasks: Sequence[str],
        dim: int,
        shared: int = 2,
        own: int = 1,
        depth: int = 1,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(tasks)
        require_at_least(1, shared=shared, own=own)
        self.shared_experts = make_experts("shared", shared, dim, depth, dropout)
        self.own_experts = nn.ModuleDict(
            {task: make_experts("own", own, dim, depth, dropout) for task in self.tasks}
        )
        self.gates = nn.ModuleDict({task: Gate(dim, own + shared) for task in self.tasks})

    def common(self, rows: Tensor) -> RowStates:
        return {ROWS: rows} | expert_outputs(self.shared_experts, rows)

    def weighed(self, task: str, states: RowStates) -> tuple[Tensor, RowStates]:
        """Return the task's gate, and the outputs of its own experts and the shared ones."""
        rows = states[ROWS]
        shared = {name: states[name] for name in self.shared_experts}
        return self.gates[task](rows), expert_outputs(self.own_experts[task], rows) | shared

    def shared_parameters(self) -> Iterator[nn.Parameter]:
        return self.shared_experts.parameters()

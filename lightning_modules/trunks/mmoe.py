"""Multi-gate mixture of experts."""

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


class MMoE(ExpertMixture):
    """r_t = sum_e g_te(x) f_e(x), g_t(x) = softmax(W_t x): all experts for all, a gate per task.

    Source: Ma et al. 2018, "Modeling task relationships in multi-task learning with multi-gate
    mixture-of-experts", section 4.2. An expert is what the shared trunk is. Gates read the
    encoders' features, normed.

    Args:
        tasks: names of all tasks.
        dim: width D of the features.
        experts: number E of them, >= 1.
        depth: residual blocks of an expert, >= 0.
        dropout: as for the shared trunk.

    Raises:
        UsageError: experts < 1.

    Examples:
        >>> import torch, pollinate as po
        >>> trunk = po.trunks.MMoE(["mood", "stars"], dim=8, experts=2)
        >>> rows = {"reviews": po.Features(torch.ones(4, 8))}
        >>> parts = trunk(rows, {"mood": ["reviews"], "stars": ["reviews"]})
        >>> parts["mood"][0].shape
        torch.Size([4, 8])
        >>> sorted(trunk.gauges(["mood"]))  # what mood takes from where
        ['gate/mood/expert_0', 'gate/mood/expert_1', 'load/mood/expert_0', 'load/mood/expert_1']
    """

    def __init__(
        self,
        tasks: Sequence[str],
        dim: int,
        experts: int = 4,
        depth: int = 1,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(tasks)
        require_at_least(1, experts=experts)
        self.experts = make_experts("expert", experts, dim, depth, dropout)
        self.gates = nn.ModuleDict({task: Gate(dim, experts) for task in self.tasks})

    def common(self, rows: Tensor) -> RowStates:
        return {ROWS: rows} | expert_outputs(self.experts, rows)

    def weighed(self, task: str, states: RowStates) -> tuple[Tensor, RowStates]:
        """Return the task's gate, and all experts' outputs."""
        return self.gates[task](states[ROWS]), {name: states[name] for name in self.experts}

    def shared_parameters(self) -> Iterator[nn.Parameter]:
        return self.experts.parameters()

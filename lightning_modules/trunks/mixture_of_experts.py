"""Experts, and trunks in which a gate per task mixes them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, einsum, nn

from lightning_modules.trunks.base import PerTaskTrunk, RowStates
from lightning_modules.trunks.gauges import GateStats
from lightning_modules.trunks.shared import tower


def make_experts(kind: str, count: int, dim: int, depth: int, dropout: float) -> nn.ModuleDict:
    """Return {``<kind>_<number>``: tower}."""
    return nn.ModuleDict({f"{kind}_{n}": tower(dim, depth, dropout) for n in range(count)})


def expert_outputs(experts: nn.Module, rows: Tensor) -> dict[str, Tensor]:
    """Return what each expert makes of the rows: {expert: (N, D)}."""
    return {name: expert(rows) for name, expert in experts.named_children()}


def expert_names(experts: nn.Module) -> list[str]:
    """Return the experts' names."""
    return [name for name, _ in experts.named_children()]


class ExpertMixture(PerTaskTrunk):
    """r_t = sum_e w_te(x) f_e(x): what mixtures of experts have in common.

    Args:
        tasks: names of all tasks.

    Examples:
        >>> import torch, pollinate as po
        >>> trunk = po.trunks.MMoE(["mood", "stars"], dim=8, experts=3)
        >>> isinstance(trunk, po.trunks.ExpertMixture)
        True
        >>> weights, outputs = trunk.weighed("mood", trunk.common(torch.ones(4, 8)))
        >>> weights.shape, weights.sum(dim=1).round(decimals=4)
        (torch.Size([4, 3]), tensor([1., 1., 1., 1.], grad_fn=<RoundBackward1>))
        >>> len(outputs)
        3
    """

    def __init__(self, tasks: Sequence[str]) -> None:
        super().__init__(tasks)
        self._load = GateStats()

    @abstractmethod
    def weighed(self, task: str, states: RowStates) -> tuple[Tensor, RowStates]:
        """Return what a task mixes: the weights (n, E), and {expert: its outputs (n, D)}."""

    def own(self, task: str, states: RowStates) -> Tensor:
        weights, experts = self.weighed(task, states)
        self._load.note(task, list(experts), weights)
        return mixed(weights, experts)

    def gauges(self, tasks: Sequence[str]) -> dict[str, float]:
        """Return mean weights, and how often each expert has the largest one."""
        return self._load.read(tasks)


class Gate(nn.Module):
    """softmax(W norm(x)): (N, dim) -> (N, experts).

    The norm is no part of the papers: an encoder's features have any scale, and large ones would
    choose an expert before anything is learnt.
    """

    def __init__(self, dim: int, experts: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.project = nn.Linear(dim, experts, bias=False)

    def forward(self, rows: Tensor) -> Tensor:
        """Return weights that sum up to 1."""
        scores: Tensor = self.project(self.norm(rows))
        return scores.softmax(dim=-1)


def mixed(weights: Tensor, experts: RowStates) -> Tensor:
    """Return sum_e w_e f_e: (N, E), {expert: (N, D)} -> (N, D)."""
    return einsum("ne,ned->nd", weights, torch.stack(list(experts.values()), dim=1))

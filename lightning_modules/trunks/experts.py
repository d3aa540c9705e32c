"""Experts by name."""

from __future__ import annotations

from torch import Tensor, nn

from lightning_modules.trunks.shared import tower


def experts(kind: str, count: int, dim: int, depth: int, dropout: float) -> nn.ModuleDict:
    """Return {``<kind>_<number>``: tower}."""
    return nn.ModuleDict({f"{kind}_{n}": tower(dim, depth, dropout) for n in range(count)})


def outputs(experts: nn.Module, rows: Tensor) -> dict[str, Tensor]:
    """Return what each expert makes of the rows: {expert: (N, D)}."""
    return {name: expert(rows) for name, expert in experts.named_children()}


def names(experts: nn.Module) -> list[str]:
    """Return the experts' names."""
    return [name for name, _ in experts.named_children()]

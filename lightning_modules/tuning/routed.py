"""Adapters of each task beside a layer that all tasks' rows go through."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lightning_modules.tuning.low_rank import LowRank
from lightning_modules.tuning.routing import Routing

PLACE = "adapters"  # the name under which a layer holds its own


class RoutedAdapters(nn.Module):
    """s_0 B_0 A_0 x + s_t B_t A_t x, where t is the task that the row x belongs to.

    Args:
        layer: beside which they stand.
        routing: knows the tasks of the rows.
        tasks: names of all tasks whose rows the layer sees.
        rank: r of s_t B_t A_t.
        shared_rank: r of s_0 B_0 A_0; 0: without it.
        alpha: s = alpha / r.
        dropout: share of x left out in training.
    """

    def __init__(
        self,
        layer: nn.Module,
        routing: Routing,
        tasks: Sequence[str],
        rank: int,
        shared_rank: int,
        alpha: float,
        dropout: float,
    ) -> None:
        super().__init__()
        self.routing = routing
        self.dropout = nn.Dropout(dropout)
        self.own = nn.ModuleDict({task: LowRank(layer, rank, alpha) for task in tasks})
        self.shared = LowRank(layer, shared_rank, alpha) if shared_rank else None

    def forward(self, rows: Tensor) -> Tensor | None:
        """Return what is added to the layer's output; None: nothing."""
        dropped = self.dropout(rows)
        own = [self.own[task](part) for task, part in self.routing.split(dropped)]
        added = torch.cat(own) if own else None
        if self.shared is None:
            return added
        shared: Tensor = self.shared(dropped)
        return shared if added is None else shared + added


def attach(layer: nn.Module, adapters: RoutedAdapters) -> None:
    """Let a layer return W x + b plus what its adapters return.

    The layer stays in its place, for code that looks at its weight.
    """
    layer.add_module(PLACE, adapters)
    layer.register_forward_hook(add)


def add(layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
    """Return the layer's output with the adapters'."""
    added: Tensor | None = layer.get_submodule(PLACE)(*inputs)
    return output if added is None else output + added


def routed_layers(network: nn.Module) -> Iterator[tuple[str, nn.Module, RoutedAdapters]]:
    """Yield (name, layer, its adapters)."""
    for name, layer in network.named_modules():
        adapters = dict(layer.named_children()).get(PLACE)
        if isinstance(adapters, RoutedAdapters):
            yield name, layer, adapters


def shared_parameters(encoder: nn.Module) -> Iterator[nn.Parameter]:
    """Yield an encoder's parameters, without those of the tasks' own adapters."""
    adapters = [module for module in encoder.modules() if isinstance(module, RoutedAdapters)]
    alone = {id(p) for one in adapters for p in one.own.parameters()}
    yield from (p for p in encoder.parameters() if id(p) not in alone)

"""Low-rank adapters per task beside a layer that all tasks' rows go through."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lightning_modules.routing import Routing
from pollinate.errors import UsageError


class LowRank(nn.Module):
    """s B A x beside a layer's W x, with s = alpha / rank; B starts at 0.

    Beside a convolution, A is one of the same form with r channels, and B is 1 x 1.

    Args:
        layer: a linear layer or a convolution.
        rank: r >= 1.
        alpha: scale.

    Raises:
        UsageError: the layer is of another kind.
    """

    def __init__(self, layer: nn.Module, rank: int, alpha: float) -> None:
        super().__init__()
        self.scale = alpha / rank
        self.down, self.up = lora_factors(layer, rank)
        nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5))
        nn.init.zeros_(self.up.weight)

    def forward(self, rows: Tensor) -> Tensor:
        """Map (N, ..., in) to (N, ..., out), or (N, in, H, W) to (N, out, H', W')."""
        found: Tensor = self.up(self.scale * self.down(rows))
        return found


def lora_factors(layer: nn.Module, rank: int) -> tuple[Any, Any]:
    """Return A and B of a layer, in its dtype and on its device.

    Raises:
        UsageError: it is neither linear nor a convolution of a picture.
    """
    weight = layer.get_parameter("weight")
    known: dict[str, Any] = {"bias": False, "dtype": weight.dtype, "device": weight.device}
    if isinstance(layer, nn.Conv2d):
        names = ("kernel_size", "stride", "padding", "dilation", "padding_mode")
        form: dict[str, Any] = {name: getattr(layer, name) for name in names}
        down = nn.Conv2d(layer.in_channels, rank, **form, **known)
        return down, nn.Conv2d(rank, layer.out_channels, 1, **known)
    sizes = linear_sizes(layer)
    return nn.Linear(sizes[0], rank, **known), nn.Linear(rank, sizes[1], **known)


def linear_sizes(layer: nn.Module) -> tuple[int, int]:
    """Return the numbers that a linear layer takes and gives.

    Raises:
        UsageError: it is no linear layer.
    """
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    if is_transposed(layer):
        inputs, outputs = layer.get_parameter("weight").shape
        return inputs, outputs
    raise UsageError(
        f"adapters per task need linear layers or convolutions of pictures, got "
        f"{type(layer).__name__}; leave it out of tune.targets"
    )


def is_transposed(layer: nn.Module) -> bool:
    """Say whether a layer is GPT-2's way to write x W + b, with W (in, out)."""
    if type(layer).__module__.partition(".")[0] != "transformers":
        return False
    from transformers.pytorch_utils import Conv1D

    return isinstance(layer, Conv1D)


PLACE = "adapters"  # the name under which a layer holds its own


class RoutedAdapters(nn.Module, ABC):
    """s_0 B_0 A_0 x + s B_t A_t x, where t is the task that the row x belongs to.

    Args:
        layer: beside which they stand.
        name: the layer's, for messages.
        routing: knows the tasks of the rows.
        tasks: names of all tasks whose rows the layer sees.
        rank: r of B_t A_t.
        shared_rank: r_0 of B_0 A_0; 0: without it.
        alpha: s = alpha / r, s_0 = alpha / r_0.
        dropout: share of x left out in training.
    """

    def __init__(
        self,
        layer: nn.Module,
        name: str,
        routing: Routing,
        tasks: Sequence[str],
        rank: int,
        shared_rank: int,
        alpha: float,
        dropout: float,
    ) -> None:
        super().__init__()
        self.name, self.routing = name, routing
        self.scale = alpha / rank
        self.dropout = nn.Dropout(dropout)
        self.own = nn.ModuleDict({task: LowRank(layer, rank, alpha) for task in tasks})
        self.shared = LowRank(layer, shared_rank, alpha) if shared_rank else None

    @abstractmethod
    def routed(self, rows: Tensor, times: int) -> Tensor:
        """Return s B_t A_t x of the rows x (k N, ...) of N rows of the encoder's; times: k >= 1."""

    def forward(self, rows: Tensor) -> Tensor | None:
        """Return what is added to the layer's output; None: nothing."""
        dropped = self.dropout(rows)
        times = self.routing.times(rows, self.name)
        added = self.routed(dropped, times) if times else None
        if self.shared is None:
            return added
        shared: Tensor = self.shared(dropped)
        return shared if added is None else shared + added

    def stacked(self, task: str) -> tuple[Tensor, Tensor]:
        """Return A (r + r_0, in, ...) and B (out, r + r_0, ...), with the scales in B."""
        found = [self.own.get_submodule(task), *([] if self.shared is None else [self.shared])]
        parts = [one for one in found if isinstance(one, LowRank)]
        down = torch.cat([one.down.weight.detach() for one in parts])
        up = torch.cat([one.scale * one.up.weight.detach() for one in parts], dim=1)
        return down, up


class RoutedLinear(RoutedAdapters):
    """Beside a linear layer: each row meets a copy of its task's A and B, in one product."""

    def routed(self, rows: Tensor, times: int) -> Tensor:
        """Map (k N, ..., in) to (k N, ..., out)."""
        now = self.routing.now
        own = [self.own.get_submodule(task) for task in now.tasks]
        down = torch.stack([one.get_parameter("down.weight") for one in own])[now.places]
        up = torch.stack([one.get_parameter("up.weight") for one in own])[now.places]
        each = rows.reshape(len(now.places), -1, rows.shape[-1])
        found = torch.bmm(self.scale * torch.bmm(each, down.mT), up.mT)
        return found.reshape(*rows.shape[:-1], -1)


class RoutedConvolution(RoutedAdapters):
    """Beside a convolution: one call for the rows of each task."""

    def routed(self, rows: Tensor, times: int) -> Tensor:
        """Map (k N, in, H, W) to (k N, out, H', W')."""
        shares = self.routing.now.shares
        parts = torch.split(rows, [count * times for _, count in shares])
        return torch.cat([self.own[t](part) for (t, _), part in zip(shares, parts, strict=True)])


def attach_adapters(layer: nn.Module, *options: Any) -> None:
    """Let a layer return W x + b plus what its adapters return.

    The layer stays in its place, for code that looks at its weight.

    Args:
        layer: a linear layer or a convolution.
        options: of ``RoutedAdapters``.
    """
    kind = RoutedConvolution if isinstance(layer, nn.Conv2d) else RoutedLinear
    layer.add_module(PLACE, kind(layer, *options))
    layer.register_forward_hook(add_adapter_output)


def add_adapter_output(layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
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

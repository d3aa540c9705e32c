"""One low-rank map beside a layer."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.errors import UsageError


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
        self.down, self.up = factors(layer, rank)
        nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5))
        nn.init.zeros_(self.up.weight)

    def forward(self, rows: Tensor) -> Tensor:
        """Map (N, ..., in) to (N, ..., out), or (N, in, H, W) to (N, out, H', W')."""
        found: Tensor = self.up(self.scale * self.down(rows))
        return found


def product(down: Tensor, up: Tensor) -> Tensor:
    """Return B A as a weight: (r, in, ...), (out, r, ...) -> (out, in, ...)."""
    return torch.einsum("ri...,or->oi...", down, up.flatten(1))


def factors(layer: nn.Module, rank: int) -> tuple[Any, Any]:
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
        f"adapters a task need linear layers or convolutions of pictures, got "
        f"{type(layer).__name__}; leave it out of tune.targets"
    )


def is_transposed(layer: nn.Module) -> bool:
    """Say whether a layer is GPT-2's way to write x W + b, with W (in, out)."""
    if type(layer).__module__.partition(".")[0] != "transformers":
        return False
    from transformers.pytorch_utils import Conv1D

    return isinstance(layer, Conv1D)

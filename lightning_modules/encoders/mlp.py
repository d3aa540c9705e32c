"""A perceptron on an image's pixels: the smallest network."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from datamodules.features import Features
from datamodules.modalities.image import SIZE
from lightning_modules.encoders.base import Encoder
from pollinate.errors import UsageError


class MLP(Encoder):
    """x_1 = relu(W_1 pixels + b_1), x_j = relu(W_j x_{j-1} + b_j).

    It has no grid: tasks that label pixels need another.

    Args:
        in_channels: 1 grey, 3 colour.
        dim: width D of the features, and of every layer.
        size: height and width of the images; None: 64 x 64.
        layers: number of layers, >= 1.

    Raises:
        UsageError: layers < 1.

    Examples:
        >>> import torch, pollinate as po
        >>> encoder = po.encoders.MLP(in_channels=1, dim=8, size=[16, 16])
        >>> encoder(torch.rand(4, 1, 16, 16)).pooled.shape
        torch.Size([4, 8])
    """

    def __init__(
        self, in_channels: int, dim: int, size: Sequence[int] | None = None, layers: int = 1
    ) -> None:
        super().__init__()
        if layers < 1:
            raise UsageError(f"layers must be >= 1, got {layers}")
        self.dim = dim
        height, width = size or SIZE
        widths = [in_channels * height * width, *[dim] * layers]
        parts: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            parts += [nn.Linear(inputs, outputs), nn.ReLU()]
        self.layers = nn.Sequential(nn.Flatten(), *parts)

    def forward(self, inputs: Tensor) -> Features:
        """Encode (N, C, H, W) images: pooled (N, D)."""
        return Features(pooled=self.layers(inputs))

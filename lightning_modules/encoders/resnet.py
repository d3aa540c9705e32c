"""A small residual network for images that are learnt from scratch in minutes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from datamodules.features import Features
from lightning_modules.encoders.base import Encoder
from lightning_modules.freezing import running_statistics
from pollinate.errors import UsageError


class ResNet(Encoder):
    """Convolution, halving, batch norm, ReLU; from the second stage on, a residual block after it.

    A 5 x 5 convolution begins. Stage k halves the sides and doubles the channels; block: x <-
    relu(x + f(x)), f being two 3 x 3 convolutions with batch norm, which is 0 at the start.
    pooled = W [max_i x_i, mean_i x_i] over the cells i of the last stage. Batch norm (Ioffe &
    Szegedy 2015), as group norm learns too little in few epochs: with 15 of 5,400 pictures of
    CIFAR-100, 27 % of the fine classes are right for 34 %. A batch of fewer than two pictures has
    no statistics, so the running ones are used there.
    Source: residual learning, He et al. 2016; pooling between plain and residual layers and few
    layers in all, after ResNet-9 of Page 2018, "How to train your ResNet".

    Args:
        in_channels: 1 grey, 3 colour.
        dim: width D of the features.
        width: channels of the first convolution, >= 1.
        stages: >= 1; the grid's sides are the image's / (stride 2^stages), rounded down.
        stride: of the first convolution, >= 1.
        dropout: share of the pooled entries left out in training, in [0, 1).

    Raises:
        UsageError: width, stages or stride < 1, or pictures are so small that no cell is left.

    Examples:
        >>> import torch, pollinate as po
        >>> encoder = po.encoders.ResNet(in_channels=3, dim=8)
        >>> features = encoder(torch.rand(4, 3, 32, 32))
        >>> features.pooled.shape, features.grid.shape
        (torch.Size([4, 8]), torch.Size([4, 8, 4, 4]))
    """

    def __init__(
        self,
        in_channels: int,
        dim: int,
        width: int = 32,
        stages: int = 2,
        stride: int = 2,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        for name, value in (("width", width), ("stages", stages), ("stride", stride)):
            if value < 1:
                raise UsageError(f"{name} must be >= 1, got {value}")
        self.dim = dim
        self.least = stride * (2**stages - 1) + 1  # pixels a side that leave one cell
        self.begin = nn.Sequential(
            nn.Conv2d(in_channels, width, 5, stride, padding=2, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        )
        self.stages = nn.Sequential()
        for number in range(stages):
            self.stages.append(_halving(width << number, width << (number + 1)))
            if number:
                self.stages.append(ResidualConvolutions(width << (number + 1)))
        last = width << stages
        self.dropout = nn.Dropout(dropout)
        self.pool = nn.Linear(2 * last, dim)
        self.project = nn.Conv2d(last, dim, kernel_size=1)

    def forward(self, inputs: Tensor) -> Features:
        """Encode (N, C, H, W) images: pooled (N, D) and grid (N, D, H', W')."""
        if min(inputs.shape[-2:]) < self.least:
            height, width = inputs.shape[-2:]
            raise UsageError(
                f"pictures must have >= {self.least} pixels a side, got {height} x {width}; lower "
                "encoder.image.stages or stride, or set a larger data.image.size"
            )
        with running_statistics(self, len(inputs) < 2):
            # colours innermost: convolutions keep it so, and take two thirds of the time on a CPU
            begun = self.begin(inputs - 0.5).contiguous(memory_format=torch.channels_last)
            cells = self.stages(begun)
        pooled = torch.cat([cells.amax(dim=(2, 3)), cells.mean(dim=(2, 3))], dim=1)
        return Features(pooled=self.pool(self.dropout(pooled)), grid=self.project(cells))


class ResidualConvolutions(nn.Module):
    """relu(x + f(x)), f = norm conv relu norm conv: (N, C, H, W) -> (N, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        last = nn.BatchNorm2d(channels)
        nn.init.zeros_(last.weight)
        self.layers = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            last,
        )

    def forward(self, cells: Tensor) -> Tensor:
        """Return x plus its correction, cut off at 0."""
        return torch.relu(cells + self.layers(cells))


def _halving(inputs: int, outputs: int) -> nn.Sequential:
    """Convolve, then take the maximum before the norm, which has a quarter of the work then."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.MaxPool2d(2),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )

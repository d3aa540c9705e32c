"""A small convolutional network for images."""

from __future__ import annotations

from torch import Tensor, nn

from datamodules.features import Features
from lightning_modules.encoders.base import Encoder
from pollinate.errors import UsageError

GROUPS = 8  # of channels that are normalised together


class CNN(Encoder):
    """Convolution, group norm, GELU, halving; channels double from stage to stage.

    Stage 0 is a 5 x 5 convolution, by default of stride 2, the others are 3 x 3 convolutions
    followed by 2 x 2 max pooling (not after the last stage). A 1 x 1 convolution gives the grid,
    and pooled is the grid's mean plus its maximum. Group norm (Wu & He 2018) instead of batch norm:
    a row's features don't depend on the rows beside it, so several devices compute what one does.

    Args:
        in_channels: 1 grey, 3 colour.
        dim: width D of the features.
        width: channels of stage 0, a multiple of 8.
        stages: number of stages, >= 1; the grid's sides are the image's / (stride 2^j), j being
            max(0, stages - 2).
        dropout: share of the last stage's channels left out in training, in [0, 1).
        stride: of stage 0, >= 1; 1 gives a finer grid, for tasks that label pixels.

    Raises:
        UsageError: width isn't a multiple of 8, or stages or stride < 1.

    Examples:
        >>> import torch, pollinate as po
        >>> encoder = po.encoders.CNN(in_channels=1, dim=8)
        >>> features = encoder(torch.rand(4, 1, 28, 28))
        >>> features.pooled.shape, features.grid.shape
        (torch.Size([4, 8]), torch.Size([4, 8, 7, 7]))
    """

    def __init__(
        self,
        in_channels: int,
        dim: int,
        width: int = 16,
        stages: int = 3,
        dropout: float = 0.1,
        stride: int = 2,
    ) -> None:
        super().__init__()
        if width < 1 or width % GROUPS:
            raise UsageError(f"width must be a multiple of {GROUPS}, got {width}")
        if stages < 1:
            raise UsageError(f"stages must be >= 1, got {stages}")
        if stride < 1:
            raise UsageError(f"stride must be >= 1 pixel, got {stride}")
        self.dim = dim
        layers: list[nn.Module] = [*_stage(in_channels, width, kernel=5, stride=stride)]
        for number in range(1, stages):
            if number > 1:
                layers.append(nn.MaxPool2d(2))
            layers += _stage(width << (number - 1), width << number, kernel=3, stride=1)
        self.stages = nn.Sequential(*layers)
        self.project = nn.Sequential(
            nn.Dropout2d(dropout), nn.Conv2d(width << (stages - 1), dim, kernel_size=1)
        )

    def forward(self, inputs: Tensor) -> Features:
        """Encode (N, C, H, W) images: pooled (N, D) and grid (N, D, H', W')."""
        grid = self.project(self.stages(inputs - 0.5))
        return Features(pooled=grid.mean(dim=(2, 3)) + grid.amax(dim=(2, 3)), grid=grid)


def _stage(inputs: int, outputs: int, kernel: int, stride: int) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False),
        nn.GroupNorm(GROUPS, outputs),
        nn.GELU(),
    ]

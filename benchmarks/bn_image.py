"""A convolutional image encoder with batch norm, for what merging does to its statistics."""

from __future__ import annotations

from torch import Tensor, nn

from datamodules.features import Features
from lightning_modules.encoders.base import Encoder


class BatchNormCNN(Encoder):
    """Convolutions with batch norm and ReLU, halving; channels double by stage; a mean.

    Args:
        in_channels: 1 grey, 3 colour.
        dim: width D of the features.
        width: channels of the first stage.
        stages: number of stages, >= 1.
        convs: convolutions of a stage, >= 1.
    """

    def __init__(
        self, in_channels: int, dim: int, width: int = 16, stages: int = 3, convs: int = 1
    ) -> None:
        super().__init__()
        self.dim = dim
        layers: list[nn.Module] = []
        channels = in_channels
        for number in range(stages):
            wide = width << number
            for _ in range(convs):
                layers += [
                    nn.Conv2d(channels, wide, kernel_size=3, padding=1, bias=False),
                    nn.BatchNorm2d(wide),
                    nn.ReLU(),
                ]
                channels = wide
            layers.append(nn.MaxPool2d(2))
        self.stages = nn.Sequential(*layers)
        self.project = nn.Linear(channels, dim)

    def forward(self, inputs: Tensor) -> Features:
        """Encode (N, C, H, W) images: pooled (N, D)."""
        return Features(self.project(self.stages(inputs - 0.5).mean(dim=(2, 3))))

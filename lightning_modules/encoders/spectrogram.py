"""A small convolutional network for spectrograms."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from datamodules.features import Features
from lightning_modules.encoders.base import Encoder
from lightning_modules.encoders.pooling import masked_max, masked_mean
from pollinate.errors import UsageError


class Spectrogram(Encoder):
    """Blocks of a depthwise convolution over time and a dense layer over the numbers of a frame.

    x_0 = W_0 [frames i-2 ... i+2]; x <- x + W_2 gelu(W_1 norm(depthwise_7(x))); between two blocks
    neighbouring frames are averaged in twos. pooled = W [max_i x_i, mean_i x_i] over real frames.
    Source: ConvNeXt, Liu et al. 2022, section 2, in one dimension. What is beyond a row's end is 0
    before every convolution, so a row's features don't depend on the rows beside it.

    Args:
        in_features: numbers of a frame.
        dim: width D of the features.
        width: channels.
        depth: blocks, >= 1; the sequence is 2^(depth - 1) times shorter than the input.
        dropout: share of the pooled entries left out in training, in [0, 1).

    Raises:
        UsageError: depth < 1.

    Examples:
        >>> import torch, pollinate as po
        >>> frames = torch.randn(2, 12, 64)
        >>> frames[1, 8:] = torch.nan  # the second recording is shorter
        >>> features = po.encoders.Spectrogram(in_features=64, dim=8)(frames)
        >>> features.pooled.shape, features.sequence.shape, features.mask.sum(dim=1).tolist()
        (torch.Size([2, 8]), torch.Size([2, 3, 8]), [3, 2])
    """

    def __init__(
        self, in_features: int, dim: int, width: int = 128, depth: int = 3, dropout: float = 0.2
    ) -> None:
        super().__init__()
        if depth < 1:
            raise UsageError(f"depth must be >= 1, got {depth}")
        self.dim = dim
        self.begin = nn.Conv1d(in_features, width, 5, padding=2)
        self.blocks = nn.ModuleList(SpectrogramBlock(width) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.pool = nn.Linear(2 * width, dim)
        self.project = nn.Linear(width, dim)

    def forward(self, inputs: Tensor) -> Features:
        """Encode (N, L, F) frames, NaN beyond a row's end: pooled (N, D), sequence (N, L', D)."""
        mask = ~inputs[..., 0].isnan()
        rows = self.begin(inputs.nan_to_num(0.0).mT).mT
        for number, block in enumerate(self.blocks):
            if number:
                rows, mask = halved(rows, mask)
            rows = block(rows * mask[..., None])
        rows = self.norm(rows)
        both = torch.cat([masked_max(rows, mask), masked_mean(rows, mask)], dim=1)
        return Features(self.pool(self.dropout(both)), self.project(rows), mask=mask)


class SpectrogramBlock(nn.Module):
    """x + W_2 gelu(W_1 norm(depthwise(x))): (N, L, width) -> (N, L, width)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.spread = nn.Conv1d(width, width, 7, padding=3, groups=width)
        self.mix = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, rows: Tensor) -> Tensor:
        """Return x plus its correction."""
        mixed: Tensor = self.mix(self.spread(rows.mT).mT)
        return rows + mixed


def halved(rows: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Average neighbours in twos, as far as they are real: (N, L, D) -> (N, ceil(L / 2), D)."""
    count, length, dim = rows.shape
    odd = length % 2
    half = (length + odd) // 2
    rows = functional.pad(rows * mask[..., None], (0, 0, 0, odd)).reshape(count, half, 2, dim)
    real = functional.pad(mask, (0, odd)).reshape(count, half, 2)
    counts = real.sum(dim=2)
    return rows.sum(dim=2) / counts.clamp(min=1)[..., None], counts > 0

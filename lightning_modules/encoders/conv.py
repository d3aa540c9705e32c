"""A convolutional network for text."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from datamodules.features import Features
from lightning_modules.encoders.base import Encoder, TokenLayer
from lightning_modules.encoders.pooling import masked_max, masked_mean
from pollinate.errors import UsageError


class Conv(Encoder):
    """Convolutions of several widths over the embeddings, maximum and mean over the tokens.

    c_i = gelu(W_k [e_(i-k/2) ... e_(i+k/2)]) for each k, pooled = W [max_i c_i, mean_i c_i].
    Source: Kim 2014, "Convolutional neural networks for sentence classification", section 2; the
    mean is an addition. Padding is 0 before the convolutions and left out of the pooling.

    Args:
        vocab_size: number of token ids, 0 is padding.
        dim: width D of the features.
        width: width of the embeddings.
        kernels: tokens that each convolution spans, odd.
        channels: outputs of each convolution.
        dropout: share of embedding entries and of pooled entries left out in training, in [0, 1).

    Raises:
        UsageError: no kernels, or an even one.

    Examples:
        >>> import torch, pollinate as po
        >>> encoder = po.encoders.Conv(vocab_size=50, dim=8, kernels=[1, 3, 5])
        >>> features = encoder(torch.tensor([[4, 7, 9, 0, 0], [4, 7, 9, 1, 2]]))  # 0 is padding
        >>> features.pooled.shape, features.sequence.shape, features.mask.sum(dim=1).tolist()
        (torch.Size([2, 8]), torch.Size([2, 5, 8]), [3, 5])
    """

    def __init__(
        self,
        vocab_size: int,
        dim: int,
        width: int = 128,
        kernels: Sequence[int] = (1, 3),
        channels: int = 64,
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        if not kernels or any(kernel % 2 == 0 for kernel in kernels):
            raise UsageError(f"kernels must be odd so that tokens stay in place, got {[*kernels]}")
        self.dim = dim
        self.token = nn.Embedding(vocab_size, width, padding_idx=0)
        self.dropout = nn.Dropout(dropout)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(width, channels, kernel, padding=kernel // 2) for kernel in kernels
        )
        self.pool = nn.Linear(2 * channels * len(kernels), dim)
        self.project = nn.Linear(channels * len(kernels), dim)

    def token_layers(self) -> list[TokenLayer]:
        return [TokenLayer(self.token)]

    def forward(self, inputs: Tensor) -> Features:
        """Encode (N, L) token ids: pooled (N, D), sequence (N, L, D) and mask (N, L)."""
        mask = inputs != 0
        rows = self.dropout(self.token(inputs)).mT
        found = nn.functional.gelu(torch.cat([conv(rows) for conv in self.convolutions], dim=1)).mT
        both = torch.cat([masked_max(found, mask), masked_mean(found, mask)], dim=1)
        pooled = self.pool(self.dropout(both))
        return Features(pooled, self.project(found), mask=mask)

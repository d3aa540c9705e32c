"""A small transformer for text."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from datamodules.features import Features
from lightning_modules.encoders.base import Encoder, TokenLayer
from lightning_modules.encoders.pooling import masked_mean
from pollinate.errors import UsageError


class Transformer(Encoder):
    """Pre-norm transformer blocks over embeddings and sinusoidal positions; mean over the tokens.

    x_0 = E[t] + position, x <- x + attend(norm(x)), x <- x + W2 gelu(W1 norm(x)),
    pooled = mean_i norm(x_i). Source: Vaswani et al. 2017, sections 3.2 and 3.5; the norm before
    each part, not after it, is Xiong et al. 2020's.

    Args:
        vocab_size: number of token ids, 0 is padding.
        dim: width D of the features, a multiple of 2 * heads.
        depth: number of blocks, >= 0.
        heads: attention heads a block, >= 1.
        dropout: share of embedding entries and of each part's outputs left out in training.

    Raises:
        UsageError: the heads don't divide dim / 2.

    Examples:
        >>> import torch, pollinate as po
        >>> encoder = po.encoders.Transformer(vocab_size=50, dim=8, depth=2, heads=2)
        >>> features = encoder(torch.tensor([[4, 7, 9, 0, 0], [4, 7, 9, 1, 2]]))  # 0 is padding
        >>> features.pooled.shape, features.sequence.shape, features.mask.sum(dim=1).tolist()
        (torch.Size([2, 8]), torch.Size([2, 5, 8]), [3, 5])
    """

    def __init__(
        self, vocab_size: int, dim: int, depth: int = 2, heads: int = 4, dropout: float = 0.2
    ) -> None:
        super().__init__()
        if dim % (2 * heads):
            raise UsageError(f"dim must be a multiple of 2 * heads = {2 * heads}, got {dim}")
        self.dim = dim
        self.token = nn.Embedding(vocab_size, dim, padding_idx=0)
        nn.init.normal_(self.token.weight, std=0.1)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(TransformerBlock(dim, heads, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)

    def token_layers(self) -> list[TokenLayer]:
        return [TokenLayer(self.token)]

    def forward(self, inputs: Tensor) -> Features:
        """Encode (N, L) token ids: pooled (N, D), sequence (N, L, D) and mask (N, L)."""
        mask = inputs != 0
        embedded = self.token(inputs)
        rows = self.dropout(embedded + 0.1 * positions(inputs.shape[1], self.dim).to(embedded))
        for block in self.blocks:
            rows = block(rows, mask)
        rows = self.norm(rows)
        return Features(masked_mean(rows, mask), rows, mask=mask)


class TransformerBlock(nn.Module):
    """Self-attention, then a feed-forward part, each added to what it gets."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.attend_norm, self.mix_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.split, self.join = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.mix = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))
        self.dropout = nn.Dropout(dropout)

    def forward(self, rows: Tensor, mask: Tensor) -> Tensor:
        """Let every token look at its row's real tokens: (N, L, D) and (N, L) -> (N, L, D)."""
        rows = rows + self.dropout(self.attend(self.attend_norm(rows), mask))
        mixed: Tensor = self.dropout(self.mix(self.mix_norm(rows)))
        return rows + mixed

    def attend(self, rows: Tensor, mask: Tensor) -> Tensor:
        """softmax(Q K^T / sqrt(d)) V, head by head, put together by a linear layer."""
        parts = self.split(rows).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = parts.unbind()
        seen = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask[:, None, None, :]
        )
        joined: Tensor = self.join(seen.transpose(1, 2).flatten(2))
        return joined


def positions(length: int, dim: int) -> Tensor:
    """sin and cos of i / 10000^(2j/D), side by side: (length, D)."""
    rates = torch.exp(torch.arange(0, dim, 2) * (-math.log(10000.0) / dim))
    angles = torch.arange(length)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)

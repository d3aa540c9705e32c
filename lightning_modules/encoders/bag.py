"""A bag of tokens and token pairs."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from datamodules.features import Features
from lightning_modules.encoders.base import Encoder, TokenLayer
from lightning_modules.encoders.pooling import attended_mean


class Bag(Encoder):
    """Mean of the embeddings of tokens and of pairs of neighbours, the mean's weights learnt.

    h_i = E[t_i] + P[hash(t_(i-1), t_i)], pooled = W sum_i a_i h_i, a = softmax(v h) over the row.
    Source: Joulin et al. 2017, section 2.1 (hashed pairs; their mean is plain, a_i = 1/L).
    In training whole occurrences of tokens and of pairs are left out, not single entries: a row's
    few telling words mustn't suffice to learn it by heart. Pairs start at 0, so that one that was
    never seen says nothing. W's bias starts large: a trunk's layer norm then leaves weak evidence
    weak, where it would blow up a vector near 0.

    Args:
        vocab_size: number of token ids, 0 is padding.
        dim: width D of the features.
        width: width of the embeddings.
        pairs: number of pair embeddings, >= 1; more give fewer collisions.
        dropout: share of occurrences left out in training, in [0, 1).

    Examples:
        >>> import torch, pollinate as po
        >>> encoder = po.encoders.Bag(vocab_size=50, dim=8).eval()
        >>> tokens = torch.tensor([[4, 7, 9, 0, 0], [4, 7, 9, 1, 2]])  # 0 is padding
        >>> features = encoder(tokens)
        >>> features.pooled.shape, features.sequence.shape
        (torch.Size([2, 8]), torch.Size([2, 5, 8]))
        >>> torch.allclose(features.pooled[:1], encoder(tokens[:1, :3]).pooled, atol=1e-6)
        True
    """

    def __init__(
        self, vocab_size: int, dim: int, width: int = 48, pairs: int = 16384, dropout: float = 0.5
    ) -> None:
        super().__init__()
        self.dim = dim
        self.pairs = pairs
        self.token = nn.Embedding(vocab_size, width, padding_idx=0)
        self.pair = nn.Embedding(pairs, width)
        nn.init.normal_(self.token.weight, std=0.05)
        nn.init.zeros_(self.pair.weight)
        self.dropout = nn.Dropout(dropout)
        self.attend = nn.Linear(width, 1)
        nn.init.zeros_(self.attend.weight)
        self.project = nn.Linear(width, dim)
        nn.init.normal_(self.project.bias)

    def token_layers(self) -> list[TokenLayer]:
        return [TokenLayer(self.token), TokenLayer(self.pair, pairs=True)]

    def forward(self, inputs: Tensor) -> Features:
        """Encode (N, L) token ids: pooled (N, D), sequence (N, L, D) and mask (N, L)."""
        mask = inputs != 0
        present = torch.ones_like(inputs[..., None], dtype=self.token.weight.dtype)
        rows = self.token(inputs) * self.dropout(present)
        rows = rows + self.pair(hash_pairs(inputs, self.pairs)) * self.dropout(present)
        pooled = attended_mean(rows, self.attend(rows).squeeze(-1), mask)
        return Features(self.project(pooled), self.project(rows), mask=mask)


def hash_pairs(ids: Tensor, buckets: int) -> Tensor:
    """Number in [0, buckets) of each token with the one before it: (N, L) -> (N, L) int64."""
    before = functional.pad(ids, (1, 0))[:, :-1]
    mixed = before * 1_000_003 + ids * 8_191
    return (mixed ^ (mixed >> 15)) % buckets

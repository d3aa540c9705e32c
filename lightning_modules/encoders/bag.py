"""A bag of tokens and token pairs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lightning_modules.encoders.base import Encoder
from lightning_modules.features import Features


class Bag(Encoder):
    """Mean of the embeddings of tokens and of pairs of neighbours, fastText's way.

    h_i = norm(E[t_i] + P[hash(t_(i-1), t_i)]), pooled = W sum_i a_i h_i with a = softmax(v h) over
    the row's own tokens. Source: Joulin et al. 2017, section 2 (hashed bigrams); the learnt weights
    a replace their plain mean.

    Args:
        vocab_size: number of token ids, 0 is padding.
        dim: width D of the features.
        width: width of the embeddings.
        pairs: number of pair embeddings, >= 1; more give fewer collisions.
        dropout: share of embedding entries left out in training, in [0, 1).
    """

    def __init__(
        self, vocab_size: int, dim: int, width: int = 128, pairs: int = 32768, dropout: float = 0.3
    ) -> None:
        super().__init__()
        self.dim = dim
        self.pairs = pairs
        self.token = nn.Embedding(vocab_size, width, padding_idx=0)
        self.pair = nn.Embedding(pairs, width)
        nn.init.normal_(self.token.weight, std=0.1)
        nn.init.normal_(self.pair.weight, std=0.1)
        self.dropout = nn.Dropout(dropout)
        self.attend = nn.Linear(width, 1)
        nn.init.zeros_(self.attend.weight)
        self.project = nn.Linear(width, dim)

    def forward(self, inputs: Tensor) -> Features:
        """Encode (N, L) token ids: pooled (N, D), sequence (N, L, D) and mask (N, L)."""
        mask = inputs != 0
        before = nn.functional.pad(inputs, (1, 0))[:, :-1]
        hashed = (before * 1000003 + inputs * 8191) % self.pairs
        rows = self.dropout(self.token(inputs) + self.pair(hashed))
        scores = self.attend(rows).squeeze(-1).masked_fill(~mask, -1e9)
        pooled = torch.einsum("nl,nle->ne", scores.softmax(dim=-1), rows)
        return Features(self.project(pooled), self.project(rows), mask=mask)

"""A recurrent network for text, read from both sides."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from datamodules.features import Features
from lightning_modules.encoders.base import Encoder, TokenLayer
from lightning_modules.encoders.pooling import masked_max, masked_mean
from pollinate.errors import UsageError


class GRU(Encoder):
    """Gated recurrent units over the embeddings, left to right and right to left, side by side.

    h_i = [gru(e_1 ... e_i), gru(e_L ... e_i)], pooled = W [max_i h_i, mean_i h_i]. Each token knows
    its whole sentence, so it is good for labelling words. Source: Cho et al. 2014, section 2.3;
    both sides, Schuster & Paliwal 1997. Embeddings start with a deviation of 0.1. The state stops
    at a row's last token, so padding changes nothing.

    Args:
        vocab_size: number of token ids, 0 is padding.
        dim: width D of the features.
        width: width of the embeddings.
        hidden: units of each side.
        depth: layers, >= 1.
        dropout: share of tokens that are left blank, of embedding entries and of outputs left out
            in training, in [0, 1).

    Raises:
        UsageError: depth < 1.

    Examples:
        >>> import torch, pollinate as po
        >>> encoder = po.encoders.GRU(vocab_size=50, dim=8, hidden=16)
        >>> features = encoder(torch.tensor([[4, 7, 9, 0, 0], [4, 7, 9, 1, 2]]))  # 0 is padding
        >>> features.pooled.shape, features.sequence.shape, features.mask.sum(dim=1).tolist()
        (torch.Size([2, 8]), torch.Size([2, 5, 8]), [3, 5])
    """

    def __init__(
        self,
        vocab_size: int,
        dim: int,
        width: int = 128,
        hidden: int = 128,
        depth: int = 1,
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        if depth < 1:
            raise UsageError(f"depth must be >= 1, got {depth}")
        self.dim = dim
        self.token = nn.Embedding(vocab_size, width, padding_idx=0)
        with torch.no_grad():  # a token that training hardly sees must not drown its neighbours
            self.token.weight.mul_(0.1)
        self.dropout = nn.Dropout(dropout)
        self.recur = nn.GRU(width, hidden, depth, batch_first=True, bidirectional=True)
        self.pool = nn.Linear(4 * hidden, dim)
        self.project = nn.Linear(2 * hidden, dim)

    def token_layers(self) -> list[TokenLayer]:
        return [TokenLayer(self.token)]

    def forward(self, inputs: Tensor) -> Features:
        """Encode (N, L) token ids: pooled (N, D), sequence (N, L, D) and mask (N, L)."""
        mask = inputs != 0
        kept = self.dropout(torch.ones_like(inputs[..., None], dtype=self.token.weight.dtype)) > 0
        rows = self.recurred(self.dropout(self.token(inputs) * kept), mask)
        rows = self.dropout(rows)
        both = torch.cat([masked_max(rows, mask), masked_mean(rows, mask)], dim=1)
        return Features(self.pool(both), self.project(rows), mask=mask)

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # lengths decide what is computed
    def recurred(self, rows: Tensor, mask: Tensor) -> Tensor:
        """Return the states at all tokens: (N, L, width) -> (N, L, 2 hidden), 0 at padding."""
        if not len(rows):
            # packing refuses no rows; every process must reach the same parameters all the same
            reached = torch.stack([parameter.sum() for parameter in self.recur.parameters()]).sum()
            return reached * rows.new_zeros((0, rows.shape[1], 2 * self.recur.hidden_size))
        lengths = mask.sum(dim=1).cpu()
        packed = nn.utils.rnn.pack_padded_sequence(
            rows, lengths, batch_first=True, enforce_sorted=False
        )
        states, _ = nn.utils.rnn.pad_packed_sequence(
            self.recur(packed)[0], batch_first=True, total_length=rows.shape[1]
        )
        return states

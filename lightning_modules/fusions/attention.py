"""Fusion by attention between modalities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from datamodules.features import Features
from lightning_modules.cross_attention import CrossAttention, all_vectors
from lightning_modules.fusions.base import Fusion, spread


class Attention(Fusion):
    """mean_m (f_m + attention(Q f_m, [F_a; F_b; ...])): each modality looks at all of them.

    F_m is the vector f_m followed by the modality's tokens or cells, if its encoder gives any, plus
    a learnt vector that says which modality it is. A row that lacks modality m has a learnt vector
    for f_m, and no tokens. Source: cross-attention between modalities, Tsai et al. 2019,
    "Multimodal transformer for unaligned multimodal language sequences", section 3.1, of one layer,
    with all modalities as keys and one query each.

    Args:
        modalities: their names.
        dim: width D of the features.
        heads: of the attention, a divisor of dim.

    Raises:
        UsageError: heads doesn't divide dim.

    Examples:
        >>> import torch, pollinate as po
        >>> fusion = po.fusions.Attention(["image", "text"], dim=4, heads=2)
        >>> tokens = torch.randn(2, 5, 4)
        >>> rows = {"text": po.Features(tokens.mean(dim=1), sequence=tokens)}
        >>> rows["image"] = po.Features(torch.ones(1, 4))
        >>> has = {"text": torch.tensor([True, True]), "image": torch.tensor([False, True])}
        >>> fusion(rows, has).shape
        torch.Size([2, 4])
    """

    reads_tokens = True

    def __init__(self, modalities: Sequence[str], dim: int, heads: int = 4) -> None:
        super().__init__()
        self.absent = nn.ParameterDict({name: torch.zeros(dim) for name in modalities})
        self.kinds = nn.ParameterDict({name: torch.zeros(dim) for name in modalities})
        self.query = nn.Linear(dim, dim)
        self.attention = CrossAttention(dim, heads)

    def forward(self, features: Mapping[str, Features], has: Mapping[str, Tensor]) -> Tensor:
        """Fuse: (N_m, D) and (N_m, L_m, D) each -> (N, D)."""
        vectors, memories, masks = [], [], []
        for name, absent in self.absent.items():
            memory, mask = spread_tokens(features[name], has[name], absent)
            vectors.append(memory[:, 0])
            memories.append(memory + self.kinds[name])
            masks.append(mask)
        own = torch.stack(vectors, dim=1)  # (N, M, D)
        memory, mask = torch.cat(memories, dim=1), torch.cat(masks, dim=1)
        fused: Tensor = own + self.attention(self.query(own), memory, mask)
        return fused.mean(dim=1)


def spread_tokens(features: Features, has: Tensor, absent: Tensor) -> tuple[Tensor, Tensor]:
    """Return a modality's vectors of all rows: (N, 1 + L, D), and (N, 1 + L) where they are real.

    The first is the pooled one, and ``absent`` in rows that lack the modality.
    """
    memory, mask = all_vectors(features)
    first = spread(memory[:, 0], has, absent)
    others = first.new_zeros((len(has), *memory[:, 1:].shape[1:]))
    real = torch.zeros(others.shape[:2], dtype=torch.bool, device=has.device)
    others = others.masked_scatter(has[:, None, None], memory[:, 1:])
    real = real.masked_scatter(has[:, None], mask[:, 1:])
    ones = torch.ones_like(has)[:, None]
    return torch.cat([first[:, None], others], dim=1), torch.cat([ones, real], dim=1)

"""Fusion by gated multimodal units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from datamodules.features import Features
from lightning_modules.fusions.base import Fusion, spread


class Gated(Fusion):
    """sum_m z_m * h_m: for each of the D numbers, a gate says which modality it is taken from.

    h_m = tanh(W_m f_m),   [z_a; z_b; ...] = softmax over modalities of U [f_a; f_b; ...]

    where f_m is a learnt vector for rows that lack modality m. Source: Arevalo et al. 2017, "Gated
    multimodal units for information fusion", section 3. For two modalities this is the paper's
    z and 1 - z, z = sigmoid(...); for more, its gates need not sum up to 1, and these do.

    Args:
        modalities: their names.
        dim: width D of the features.

    Examples:
        >>> import torch, pollinate as po
        >>> fusion = po.fusions.Gated(["image", "text"], dim=4)
        >>> rows = {"text": po.Features(torch.ones(2, 4)), "image": po.Features(torch.ones(1, 4))}
        >>> has = {"text": torch.tensor([True, True]), "image": torch.tensor([False, True])}
        >>> fusion(rows, has).abs().max().item() < 1  # weighted means of tanh
        True
    """

    def __init__(self, modalities: Sequence[str], dim: int) -> None:
        super().__init__()
        self.absent = nn.ParameterDict({name: torch.zeros(dim) for name in modalities})
        self.values = nn.ModuleDict({name: nn.Linear(dim, dim) for name in modalities})
        self.gates = nn.Linear(dim * len(modalities), dim * len(modalities))

    def forward(self, features: Mapping[str, Features], has: Mapping[str, Tensor]) -> Tensor:
        """Fuse: (N_m, D) each -> (N, D)."""
        full = {
            name: spread(features[name].pooled, has[name], absent)
            for name, absent in self.absent.items()
        }
        values = torch.stack([torch.tanh(self.values[name](rows)) for name, rows in full.items()])
        gates = torch.stack(self.gates(torch.cat(list(full.values()), dim=1)).chunk(len(full), 1))
        return (gates.softmax(dim=0) * values).sum(dim=0)

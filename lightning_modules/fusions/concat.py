"""Fusion by concatenation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from datamodules.features import Features
from lightning_modules.fusions.base import Fusion, spread


class Concat(Fusion):
    """W [f_a; f_b; ...] + b, where f_m is a learnt vector for rows that lack modality m.

    Args:
        modalities: their names.
        dim: width D of the features.

    Examples:
        >>> import torch, pollinate as po
        >>> fusion = po.fusions.Concat(["image", "text"], dim=4)
        >>> rows = {"text": po.Features(torch.ones(2, 4)), "image": po.Features(torch.ones(1, 4))}
        >>> has = {"text": torch.tensor([True, True]), "image": torch.tensor([False, True])}
        >>> fusion(rows, has).shape  # the first row lacks an image
        torch.Size([2, 4])
    """

    def __init__(self, modalities: Sequence[str], dim: int) -> None:
        super().__init__()
        self.absent = nn.ParameterDict(
            {name: nn.Parameter(torch.zeros(dim)) for name in modalities}
        )
        self.project = nn.Linear(dim * len(modalities), dim)

    def forward(self, features: Mapping[str, Features], has: Mapping[str, Tensor]) -> Tensor:
        """Fuse: (N_m, D) each -> (N, D)."""
        full = [spread(features[name].pooled, has[name], a) for name, a in self.absent.items()]
        fused: Tensor = self.project(torch.cat(full, dim=1))
        return fused

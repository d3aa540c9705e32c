"""A source's encoders inside this run's network, frozen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import torch
from torch import nn

from datamodules.batch import Batch
from lightning_modules.network import MultiTaskNetwork, combination
from lightning_modules.views.base import Seen


class Lender(nn.Module):
    """What a source's encoders make of rows: it is saved with the network, and never trained.

    Args:
        network: of the source, of which trunk and heads are left out.
    """

    def __init__(self, network: MultiTaskNetwork) -> None:
        super().__init__()
        self.encoders, self.fusions = network.encoders, network.fusions
        self._encode = network.encode
        self.requires_grad_(False).eval()

    def reads(self, modalities: tuple[str, ...]) -> bool:
        """Say whether it can encode rows that have these modalities."""
        known = all(modality in self.encoders for modality in modalities)
        return known and (len(modalities) == 1 or combination(modalities) in self.fusions)

    def forward(self, batches: Mapping[str, Batch]) -> dict[str, Seen]:
        """Return {name: encoded rows} of those that it can read."""
        given = {name: rows for name, rows in batches.items() if self.reads(rows.modalities)}
        with torch.no_grad():
            return self._encode(given, {})

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode."""
        return super().train(False)

"""The encoder contract: raw modality in, features out."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from lightning_modules.features import Features


class Encoder(nn.Module, ABC):
    """Turns the rows of one modality, whatever data set they come from, into features.

    Attributes:
        dim: width D of ``Features.pooled``, >= 1.
    """

    dim: int

    @abstractmethod
    def forward(self, inputs: Tensor) -> Features:
        """Encode a batch.

        Args:
            inputs: image: (N, C, H, W) float, normalised; text: (N, L) int64 token ids, 0 is
                padding.

        Returns:
            Features with pooled (N, D).
        """

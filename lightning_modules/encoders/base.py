"""The encoder contract: raw modality in, features out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Self

from torch import Tensor, nn

from lightning_modules.features import Features
from lightning_modules.tuning.blocks import Groups, parameter_groups_of
from lightning_modules.tuning.freezing import hold_statistics, rest
from lightning_modules.tuning.routing import Routing


class Encoder(nn.Module, ABC):
    """Turns the rows of one modality, whatever data set they come from, into features.

    Attributes:
        dim: width D of ``Features.pooled``, >= 1.
        needs: packages, besides those of every run, that it is built with.
        outer: options on which what ``backbone`` returns doesn't depend, its weights given.
        routing: must know the tasks of the rows of a call; None: rows are alike to all tasks.
    """

    dim: int
    needs: ClassVar[tuple[str, ...]] = ()
    outer: ClassVar[frozenset[str]] = frozenset()
    routing: Routing | None = None

    @abstractmethod
    def forward(self, inputs: Tensor) -> Features:
        """Encode a batch.

        Args:
            inputs: image: (N, C, H, W) float, normalised; text: (N, L) int64 token ids, 0 is
                padding.

        Returns:
            Features with pooled (N, D).
        """

    def tuned_part(self) -> nn.Module:
        """Return the part that ``tune`` is about."""
        return self

    def backbone(self, inputs: Tensor) -> Features:
        """Return what ``tuned_part`` makes of the inputs: forward(x) = finish(backbone(x))."""
        features: Features = self(inputs)
        return features

    def finish(self, features: Features) -> Features:
        """Put the encoder's own layers on what ``backbone`` returned, whatever of it is given."""
        return features

    def tuned_groups(self) -> Groups:
        """Return the backbone's parameters in groups: what stands before the blocks, each block."""
        return parameter_groups_of(self.tuned_part())

    def train(self, mode: bool = True) -> Self:
        """Switch dropout and norms; the statistics of frozen norms stay as they are.

        A backbone of which no weight trains is always in evaluation mode, without dropout.
        """
        super().train(mode)
        hold_statistics(self)
        rest(self.tuned_part())
        return self

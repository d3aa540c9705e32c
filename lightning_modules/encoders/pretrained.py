"""The contract of encoders whose network and preprocessing come from elsewhere."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn

from lightning_modules.encoders.base import Encoder
from lightning_modules.features import Features


class PretrainedEncoder(Encoder):
    """An encoder around a network of another library.

    It is built from what ``brings`` returns, which is part of every checkpoint: a checkpoint can be
    loaded where the model that the run started from is gone.

    Attributes:
        model: a public name, or a place here.
        known: what ``brings`` returned.
    """

    outer: ClassVar[frozenset[str]] = frozenset(
        ("checkpointing", "dim", "file", "model", "names", "weights")
    )
    model: str
    known: Mapping[str, Any]

    @classmethod
    @abstractmethod
    def brings(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return architecture and preprocessing as plain values.

        Args:
            options: of the configuration, of which the model's name matters.

        Raises:
            PollinateError: there is no such model, or it is of another kind.
        """

    @abstractmethod
    def load(self) -> None:
        """Take over the weights that a new run starts from; a checkpoint needs none of them.

        Raises:
            PollinateError: there are none, or they don't fit.
        """

    @abstractmethod
    def tuned_part(self) -> nn.Module:
        """Return the other library's network, without what was put on it here."""

    @abstractmethod
    def backbone(self, inputs: Tensor) -> Features:
        """Return the other library's features, in its widths."""

    @abstractmethod
    def finish(self, features: Features) -> Features:
        """Bring features of the other library to the width D."""

    def forward(self, inputs: Tensor) -> Features:
        """Encode a batch."""
        return self.finish(self.backbone(inputs))

    @abstractmethod
    def save(self, folder: Path, weights: Mapping[str, Tensor]) -> None:
        """Write a model as the other library saves its own, so that it, and ``model``, can load it.

        Args:
            folder: exists.
            weights: of the network.

        Raises:
            PollinateError: the network is only a part of a model.
        """

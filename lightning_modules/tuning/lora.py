"""Low-rank adapters train."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from lightning_modules.encoders.base import Encoder
from lightning_modules.tuning.adapters import adapt
from lightning_modules.tuning.base import Tuning


class LoRA(Tuning):
    """h = W x + (alpha / r) B A x, where W is frozen and B starts at 0.

    Source: Hu et al. 2022, "LoRA", equation 3. Its best learning rate is about ten times that of
    training everything.

    Args:
        rank: r, >= 1.
        alpha: scale.
        dropout: share of an adapter's inputs left out in training, in [0, 1).
        targets: last parts of layers' names; None: all linear layers of the blocks.
    """

    needs: ClassVar[tuple[str, ...]] = ("peft",)

    def __init__(
        self,
        rank: int = 8,
        alpha: float = 16.0,
        dropout: float = 0.0,
        targets: Sequence[str] | None = None,
    ) -> None:
        self.rank, self.alpha, self.dropout, self.targets = rank, alpha, dropout, targets

    def apply(self, encoder: Encoder) -> None:
        """Put the adapters on the backbone's layers.

        Raises:
            UsageError: peft isn't installed, or a target fits no layer.
        """
        adapt(encoder, self.rank, self.alpha, self.dropout, self.targets, decomposed=False)

"""Low-rank adapters of directions, and lengths, train."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from lightning_modules.encoders.base import Encoder
from lightning_modules.tuning.adapters import adapt
from lightning_modules.tuning.base import Tuning


class DoRA(Tuning):
    """h = m V x / ||V||, V = W + (alpha / r) B A, where W is frozen and m starts as ||W||.

    Source: Liu et al. 2024, "DoRA: weight-decomposed low-rank adaptation", equation 5; the norms
    are of columns.

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
        adapt(encoder, self.rank, self.alpha, self.dropout, self.targets, decomposed=True)

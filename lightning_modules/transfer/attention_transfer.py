"""Attend where the source attends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor
from torch.nn import functional

from lightning_modules.hooks import TrainingStep
from lightning_modules.transfer.feature_pairs import FeaturePair, match_grids
from lightning_modules.transfer.feature_transfer import (
    SingleSourceTransfer,
    mean_over_rows,
)
from pollinate.errors import UsageError

EPSILON = 1e-12  # added under a root, whose slope at 0 is infinite


class AttentionTransfer(SingleSourceTransfer):
    """1/2 || Q_S / ||Q_S|| - Q_T / ||Q_T|| ||, where Q of a cell is sum_d f_d^2 of its features f.

    Widths may differ; the larger of two grids is averaged down to the other's sides. The same for
    tokens in place of cells. Source: Zagoruyko and Komodakis 2017, "Paying more attention to
    attention", equation 2 with p = 2, for one pair of layers; tokens are no part of it.

    Args:
        source, modalities: as for ``FeatureSelection``.
        at: grid or sequence.
        weight, until: as for ``FeatureTransfer``.

    Raises:
        UsageError: an option is out of range; in setup: a grid is of one cell, which all attention
            is on.

    Examples:
        >>> import pollinate as po
        >>> transfer = po.transfer.AttentionTransfer("runs/first", at="sequence")
        >>> model = po.MultiTaskModule(data, dim=32, transfer=transfer, sources=po.SourceOpener())
        >>> trainer.fit(model, data)
        >>> 0 < trainer.callback_metrics["transfer/attentiontransfer/text"].item() < 1
        True
    """

    kinds: ClassVar[tuple[str, ...]] = ("grid", "sequence")

    def __init__(
        self,
        source: str,
        at: str | None = None,
        modalities: Sequence[str] | None = None,
        weight: float = 1.0,
        until: int | None = None,
    ) -> None:
        super().__init__(source, at, modalities, None, weight, until)

    def prepare_pair(self, name: str, pair: FeaturePair) -> None:
        """Check that there is more than one cell to look at."""
        for whose, features in (("this run's", pair.own), ("the source's", pair.other)):
            if features[0, 0].numel() == 1 and features.dim() == 4:
                raise UsageError(
                    f"{name}: {whose} grid must have 2 cells or more, got 1, which all attention "
                    f"is on; take larger pictures, data.{name}.size=[HEIGHT, WIDTH], or "
                    "transfer=hints"
                )

    def distance(self, name: str, pair: FeaturePair, step: TrainingStep) -> Tensor:
        own, other = attention_map(pair.own, pair.mask), attention_map(pair.other, pair.mask)
        if own.dim() == 3:
            own, other = match_grids(own, other)
        return mean_over_rows(attention_distance(own.flatten(1), other.flatten(1)), pair, step)


def attention_map(features: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return Q: (n, D, H, W) -> (n, H, W), or (n, L, D) -> (n, L), 0 where a token isn't real."""
    if features.dim() == 4:
        return features.square().sum(dim=1)
    found = features.square().sum(dim=-1)
    return found if mask is None else found * mask


def attention_distance(own: Tensor, other: Tensor) -> Tensor:
    """Return half the length of the difference of directions: (n, P) twice -> (n,)."""
    difference = functional.normalize(own, dim=1) - functional.normalize(other, dim=1)
    return (difference.square().sum(dim=1) + EPSILON).sqrt() / 2

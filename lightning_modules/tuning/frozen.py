"""No weight of the backbone trains."""

from __future__ import annotations

from collections.abc import Sequence

from lightning_modules.encoders.base import Encoder
from lightning_modules.freezing import train_only
from lightning_modules.tuning.base import Tuning


class Frozen(Tuning):
    """Use the backbone as it is: what the heads make of its features is a linear probe.

    It is in evaluation mode, without dropout, so its features of a row are always the same.

    Args:
        cache: whether they are computed once and kept on disk.

    Examples:
        >>> import pollinate as po
        >>> encoder = po.encoders.TransformersText(85, dim=8, model="text_model", weights=False)
        >>> po.tuning.Frozen().apply(encoder, ["mood"])
        >>> any(weight.requires_grad for weight in encoder.tuned_part().parameters())
        False
        >>> all(weight.requires_grad for weight in encoder.project.parameters())  # to the width 8
        True
    """

    def __init__(self, cache: bool = True) -> None:
        self.caches = cache

    def apply(self, encoder: Encoder, tasks: Sequence[str]) -> None:
        train_only(encoder.tuned_part(), ())

"""All weights train."""

from __future__ import annotations

from collections.abc import Sequence

from lightning_modules.encoders.base import Encoder
from lightning_modules.tuning.base import Tuning


class Full(Tuning):
    """Train the whole encoder.

    Examples:
        >>> import pollinate as po
        >>> encoder = po.encoders.TransformersText(85, dim=8, model="text_model", weights=False)
        >>> po.tuning.Full().apply(encoder, ["mood"])
        >>> all(weight.requires_grad for weight in encoder.parameters())
        True
    """

    def apply(self, encoder: Encoder, tasks: Sequence[str]) -> None:
        """Leave it as it is."""

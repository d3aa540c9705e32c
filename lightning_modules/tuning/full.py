"""All weights train."""

from __future__ import annotations

from collections.abc import Sequence

from lightning_modules.encoders.base import Encoder
from lightning_modules.tuning.base import Tuning


class Full(Tuning):
    """Train the whole encoder."""

    def apply(self, encoder: Encoder, tasks: Sequence[str]) -> None:
        """Leave it as it is."""

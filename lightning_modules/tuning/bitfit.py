"""BitFit: only biases train."""

from __future__ import annotations

from collections.abc import Sequence

from lightning_modules.encoders.base import Encoder
from lightning_modules.freezing import train_only
from lightning_modules.tuning.base import Tuning
from pollinate.errors import UsageError


class BitFit(Tuning):
    """Train the biases of the backbone alone, those of norms among them.

    Source: Ben Zaken, Ravfogel and Goldberg 2022, "BitFit", section 3.
    """

    def apply(self, encoder: Encoder, tasks: Sequence[str]) -> None:
        """Freeze all but the biases.

        Raises:
            UsageError: the backbone has none.
        """
        backbone = encoder.tuned_part()
        biases = [p for name, p in backbone.named_parameters() if name.endswith("bias")]
        if not biases:
            raise UsageError("tune=bitfit needs biases, the backbone has none; choose another")
        train_only(backbone, biases)

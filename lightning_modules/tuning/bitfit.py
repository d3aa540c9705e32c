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

    Examples:
        >>> import pollinate as po
        >>> encoder = po.encoders.TransformersText(85, dim=8, model="text_model", weights=False)
        >>> po.tuning.BitFit().apply(encoder, ["mood"])
        >>> {n.rpartition(".")[2] for n, w in encoder.network.named_parameters() if w.requires_grad}
        {'bias'}
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

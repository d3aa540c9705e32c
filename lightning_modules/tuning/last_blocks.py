"""The last blocks train."""

from __future__ import annotations

from collections.abc import Sequence

from lightning_modules.encoders.base import Encoder
from lightning_modules.freezing import train_only
from lightning_modules.tuning.base import Tuning
from pollinate.errors import UsageError


class LastBlocks(Tuning):
    """Train the last n blocks and what comes after them.

    Features of early layers are the general ones: Yosinski et al. 2014, section 4.1.

    Args:
        blocks: n >= 1.

    Examples:
        >>> import pollinate as po
        >>> encoder = po.encoders.TransformersText(85, dim=8, model="text_model", weights=False)
        >>> po.tuning.LastBlocks(blocks=1).apply(encoder, ["mood"])
        >>> sum(one.numel() for one in encoder.network.parameters() if one.requires_grad)
        2224
        >>> sum(one.numel() for one in encoder.network.parameters())
        6384
    """

    def __init__(self, blocks: int = 1) -> None:
        self.blocks = blocks

    def apply(self, encoder: Encoder, tasks: Sequence[str]) -> None:
        """Freeze all before the last n blocks.

        Raises:
            UsageError: there aren't as many.
        """
        groups = encoder.tuned_groups()
        most = len(groups) - 1
        if not most:
            raise UsageError("tune=last_blocks needs blocks, the encoder has none; choose another")
        if not 1 <= self.blocks <= most:
            raise UsageError(
                f"tune.blocks must be in [1, {most}], the encoder's blocks, got {self.blocks}"
            )
        chosen = [parameter for group in groups[-self.blocks :] for parameter in group]
        train_only(encoder.tuned_part(), chosen)

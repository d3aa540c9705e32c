"""More and more blocks train, from the last one on."""

from __future__ import annotations

from collections.abc import Sequence

from lightning_modules.encoders.base import Encoder
from lightning_modules.freezing import train_only
from lightning_modules.tuning.base import SteppedTuning
from pollinate.errors import UsageError


class Gradual(SteppedTuning):
    """At step s the last k(s) of G groups train: k(s) = min(G, first + floor(s / every)).

    The groups are the blocks, and first what stands before them. Source: Howard & Ruder 2018,
    "Universal language model fine-tuning", section 3.3, where ``every`` is an epoch's steps.

    Args:
        every: optimizer steps until the next group trains, too, >= 1.
        first: groups that train from the start on, >= 0.

    Raises:
        UsageError: a value out of range.

    Examples:
        >>> import pollinate as po
        >>> encoder = po.encoders.TransformersText(85, dim=8, model="text_model", weights=False)
        >>> tuning = po.tuning.Gradual(every=100, first=1)
        >>> tuning.apply(encoder, ["mood"])
        >>> for step in (0, 100, 200):  # one block, two, and the embeddings too
        ...     _ = tuning.at(encoder, step)
        ...     print(sum(one.numel() for one in encoder.network.parameters() if one.requires_grad))
        2224
        4448
        6384
    """

    def __init__(self, every: int = 200, first: int = 1) -> None:
        if every < 1 or first < 0:
            raise UsageError(
                f"tune.every must be >= 1 and tune.first >= 0, got {every} and {first}"
            )
        self.every, self.first = every, first

    def apply(self, encoder: Encoder, tasks: Sequence[str]) -> None:
        """Leave all trainable: the optimizer must know every weight that will train."""

    def at(self, encoder: Encoder, step: int) -> bool:
        """Freeze all but the last k(step) groups; the norms' statistics go with them."""
        groups = encoder.tuned_groups()
        frozen = max(0, len(groups) - self.first - step // self.every)
        chosen = [parameter for group in groups[frozen:] for parameter in group]
        changed = train_only(encoder.tuned_part(), chosen)
        if changed:
            encoder.train()  # steps are of training; what was frozen wholly doesn't say so
        return changed

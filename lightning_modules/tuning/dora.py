"""Low-rank adapters for directions, and separate magnitudes, train."""

from __future__ import annotations

from typing import ClassVar

from lightning_modules.tuning.peft_adapters import PeftTuning


class DoRA(PeftTuning):
    """h = m V x / ||V||, V = W + (alpha / r) B A, where W is frozen and m starts as ||W||.

    Source: Liu et al. 2024, "DoRA: weight-decomposed low-rank adaptation", equation 5; the norms
    are of columns.

    Examples:
        >>> import pollinate as po
        >>> encoder = po.encoders.TransformersText(85, dim=8, model="text_model", weights=False)
        >>> po.tuning.DoRA(rank=4).apply(encoder, ["mood", "stars"])
        >>> sum(one.numel() for one in encoder.network.parameters() if one.requires_grad)
        2016
    """

    decomposed: ClassVar[bool] = True

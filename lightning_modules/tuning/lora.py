"""Low-rank adapters train."""

from __future__ import annotations

from typing import ClassVar

from lightning_modules.tuning.peft_adapters import PeftTuning


class LoRA(PeftTuning):
    """h = W x + (alpha / r) B A x, where W is frozen and B starts at 0.

    Source: Hu et al. 2022, "LoRA", equation 3. Its best learning rate is about ten times that of
    training everything.

    Examples:
        >>> import pollinate as po
        >>> encoder = po.encoders.TransformersText(85, dim=8, model="text_model", weights=False)
        >>> po.tuning.LoRA(rank=4).apply(encoder, ["mood", "stars"])
        >>> sum(one.numel() for one in encoder.network.parameters() if one.requires_grad)
        1792
        >>> po.encoders.MiniLM(tune=po.tuning.LoRA(rank=4)).node()["tune"]["rank"]  # in a model
        4
    """

    decomposed: ClassVar[bool] = False

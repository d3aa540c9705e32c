"""Audio models of Hugging Face's transformers, on samples or on spectrograms."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from datamodules.features import Features
from datamodules.modalities.audio import PretrainedFeatureExtractor, require_extractor
from lightning_modules.encoders.pooling import masked_mean
from lightning_modules.encoders.pretrained_files import hub_or_cache, local_copy, read_config
from lightning_modules.encoders.transformers_models import (
    TransformersEncoder,
    architecture_of,
    build_model,
    local_options,
    save_model,
)
from pollinate.errors import PollinateError

KEY, INPUT = "encoder.audio.model", "input_values"


class TransformersAudio(TransformersEncoder):
    """A network of transformers: sequence = W f(recording), pooled = W mean f(recording).

    W is learnt, and left out if the widths agree. The recording reaches the network as the model's
    own feature extractor leaves it. A network that was trained without a mask sees the zeros beyond
    a row's end, as it did then. The library's random masking of frames is off: its draws can't be
    repeated.

    Args:
        in_features: numbers of a frame, 1 for samples.
        dim: width D of the features.
        model: an id of the hub, or a local folder.
        weights: whether the model's weights are loaded; False: start from scratch.
        checkpointing: compute again in the backward pass instead of keeping: less memory, slower.
        assets: what ``assets_of`` returned in the run that made a checkpoint; None: ask the model.

    Raises:
        UsageError: transformers isn't installed.
        PollinateError: there is no such model, or it takes no sound.

    Examples:
        >>> import torch, pollinate as po
        >>> encoder = po.encoders.TransformersAudio(64, dim=8, model="audio_model", weights=False)
        >>> encoder(torch.randn(2, 32, 64)).pooled.shape
        torch.Size([2, 8])
    """

    key: ClassVar[str] = KEY
    takes: ClassVar[str] = INPUT

    def __init__(
        self,
        in_features: int,
        dim: int,
        model: str,
        weights: bool = True,
        checkpointing: bool = False,
        assets: Mapping[str, Any] | None = None,
    ) -> None:
        known = assets or self.assets_of({"model": model})
        super().__init__(dim, model, weights, checkpointing, known)
        self.extractor = known["extractor"]
        self.in_features, self.masked = in_features, known["masked"]
        self.least = least_samples(known["architecture"])

    @classmethod
    def assets_of(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the architecture, the feature extractor, and what it makes of a recording.

        Raises:
            PollinateError: there is no such model, or it takes no sound.
            UsageError: transformers isn't installed.
        """
        architecture = {**architecture_of(options["model"], KEY), "apply_spec_augment": False}
        with torch.device("meta"):
            build_model(architecture, KEY, INPUT)
        settings = extractor_of(options["model"])
        extract = PretrainedFeatureExtractor(settings)
        return {
            "architecture": architecture,
            "extractor": settings,
            "rate": extract.rate,
            "features": extract.features(),
            "masked": bool(settings.get("return_attention_mask")),
        }

    def save(self, folder: Path, weights: Mapping[str, Tensor]) -> None:
        """Write the network and its feature extractor.

        Raises:
            PollinateError: the network is only a part of a model.
        """
        save_model(self.network, folder, weights, KEY)
        text = json.dumps(self.extractor, indent=2) + "\n"
        (folder / "preprocessor_config.json").write_text(text, encoding="utf-8")

    def backbone(self, inputs: Tensor) -> Features:
        """Encode (N, L, F), NaN beyond a row's end: pooled (N, W), sequence and mask (N, L')."""
        if not len(inputs):
            return self.no_rows(inputs.new_zeros((1, max(1, inputs.shape[1]), self.in_features)))
        if inputs.shape[1] < self.least:
            short = self.least - inputs.shape[1]
            inputs = functional.pad(inputs, (0, 0, 0, short), value=torch.nan)
        # silence follows a click that is too short for one frame
        real = ~inputs[..., 0].isnan()
        real[:, : self.least] = True
        values = inputs.nan_to_num(0.0)
        known = {INPUT: values[..., 0] if self.in_features == 1 else values}
        if self.masked and self.in_features == 1:
            known["attention_mask"] = real.long()
        rows = self.network(**known).last_hidden_state
        mask = shortened(real, rows.shape[1])
        return Features(masked_mean(rows, mask), rows, mask=mask)


def shortened(real: Tensor, length: int) -> Tensor:
    """Return which of a row's last layer's places stand for something real: (N, L) -> (N, L')."""
    counts = (real.sum(dim=1) * length / real.shape[1]).ceil().clamp(min=1)
    return torch.arange(length, device=real.device) < counts[:, None]


def least_samples(architecture: Mapping[str, Any]) -> int:
    """Return the samples from which a stack of convolutions makes one frame; 1 without one."""
    kernels, strides = architecture.get("conv_kernel", ()), architecture.get("conv_stride", ())
    count = 1
    for kernel, stride in zip(reversed(kernels), reversed(strides), strict=True):
        count = (count - 1) * stride + kernel
    return count


def extractor_of(model: str) -> dict[str, Any]:
    """Return a model's feature extractor as plain values.

    Raises:
        PollinateError: it has none.
    """
    from transformers import AutoFeatureExtractor

    place = local_copy(model)
    file = None if place is None else place / "preprocessor_config.json"
    named = read_config(file).get("feature_extractor_type") if file and file.is_file() else None
    if named is not None:  # else the library chooses by the network's kind
        require_extractor(named)
    try:
        with hub_or_cache(place is None):
            found = AutoFeatureExtractor.from_pretrained(
                str(place or model), **local_options(place)
            )
    except Exception as error:  # without its file an extractor fails in many ways
        raise PollinateError(
            f"{KEY} must have a feature extractor, {place or model} has no "
            "preprocessor_config.json that can be read; save it there with save_pretrained"
        ) from error
    return {**found.to_dict(), "feature_extractor_type": type(found).__name__}

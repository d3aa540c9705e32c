"""Another library's model as a network of encoders alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from lightning_modules.encoders.base import Encoder
from lightning_modules.encoders.places import local_copy
from lightning_modules.encoders.pretrained import PretrainedEncoder
from lightning_modules.encoders.timm_image import TimmImage
from lightning_modules.encoders.transformers_audio import TransformersAudio
from lightning_modules.encoders.transformers_text import TransformersText
from lightning_modules.features import Features
from lightning_modules.network import MultiTaskNetwork
from lightning_modules.trunks.shared import SharedTrunk
from pipeline.errors import UsageError

if TYPE_CHECKING:
    from lightning_modules.transfer.source import Source

CONFIG = "config.json"
SOUND = "preprocessor_config.json"  # only folders of sound models have one, among those we read
WIDTH = 1  # of a projection that isn't used


class Backbone(Encoder):
    """A pre-trained network's features in its own widths.

    Args:
        encoder: whose own layers on top of it are left out.
    """

    def __init__(self, encoder: PretrainedEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, inputs: Tensor) -> Features:
        """Encode a batch."""
        return self.encoder.backbone(inputs)

    def tuned_part(self) -> nn.Module:
        """Return the network."""
        return self.encoder.tuned_part()


def library_network(source: Source) -> MultiTaskNetwork:
    """Return the encoder of a folder of timm or transformers, with its weights.

    Raises:
        UsageError: it is a file of weights without a description of the network.
    """
    modality = modality_of(source.name)
    encoder = built(modality, source.name)
    encoder.load()
    return encoders_alone({modality: Backbone(encoder)})


def built(modality: str, model: str, brought: Mapping[str, Any] | None = None) -> PretrainedEncoder:
    """Return the library's encoder of a modality, without its weights.

    Args:
        modality: image, text or audio.
        model: its folder.
        brought: what it brings along; None: ask the folder.
    """
    if modality == "image":
        known = brought or TimmImage.brings({"model": model})
        return TimmImage(3, WIDTH, model, size=known["size"], brought=known)
    if modality == "audio":
        known = brought or TransformersAudio.brings({"model": model})
        return TransformersAudio(known["features"], WIDTH, model, brought=known)
    known = brought or TransformersText.brings({"model": model})
    return TransformersText(0, WIDTH, model, brought=known)


def described(source: Source) -> dict[str, Any]:
    """Return what a source's encoders can be built from, without its weights, as plain values."""
    if source.spec is not None:
        learnt = {name: source.spec["learnt"][name] for name in ("tasks", "modalities")}
        return {"config": source.spec["config"], "learnt": learnt}
    modality = modality_of(source.name)
    return {"modality": modality, "brought": dict(built(modality, source.name).known)}


def rebuilt(known: Mapping[str, Any]) -> MultiTaskNetwork:
    """Return another library's encoder again, without weights, from what ``described`` returned."""
    modality = known["modality"]
    return encoders_alone({modality: Backbone(built(modality, "", known["brought"]))})


def encoders_alone(encoders: Mapping[str, Encoder]) -> MultiTaskNetwork:
    """Return a network that encodes, and has no tasks."""
    return MultiTaskNetwork(encoders, SharedTrunk([], WIDTH, depth=0), {}, {})


def modality_of(folder: str) -> str:
    """Return the modality of a folder's model.

    Raises:
        UsageError: it isn't a folder with a config.json.
    """
    place = local_copy(folder)
    if place is None or not (place / CONFIG).is_file():
        raise UsageError(
            f"{folder} must be a run of this project, or a folder of timm or transformers with "
            "its config.json: weights alone don't say which network they are of"
        )
    if "architecture" in json.loads((place / CONFIG).read_text(encoding="utf-8")):
        return "image"
    return "audio" if (place / SOUND).is_file() else "text"

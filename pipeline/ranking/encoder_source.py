"""A pre-trained encoder of another library as a source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from lightning_modules.encoders.pretrained import PretrainedEncoder
from lightning_modules.transferability.base import Absent
from pipeline.building.modalities import build_modalities
from pipeline.building.network import TUNE
from pipeline.errors import UsageError
from pipeline.instantiate import find_target, instantiate
from pipeline.ranking.source import Block, Represented, Source
from pipeline.ranking.target import Cells

ENCODER = "encoder"  # the one part of such a source
# options of the data that are the encoder's own affair here
OWN = {"image": {"size": None, "augment": None}, "text": {"tokenizer": None}}


class EncoderSource(Source):
    """Features are what the encoder's own network makes of the rows, before any new layer.

    Args:
        name: as the user wrote it.
        modality: that it reads.
        config: of a run with this encoder; the encoder's own size of images counts.

    Raises:
        UsageError: it isn't pre-trained.
    """

    def __init__(self, name: str, modality: str, config: Mapping[str, Any]) -> None:
        node = {k: v for k, v in config["encoder"][modality].items() if k != TUNE}
        allow, key = config["allow_targets"], f"encoder.{modality}"
        kind = find_target(node["_target_"], allow, key)
        if not issubclass(kind, PretrainedEncoder) or not node.get("weights", True):
            raise UsageError(
                f"source {name}: {kind.__name__} has no pre-trained weights; name a checkpoint of "
                "a run with it, or a pre-trained encoder such as encoder/text:minilm"
            )
        self.name = name
        self.modalities = (modality,)
        self.rows = Absent("how many rows a pre-trained encoder has seen isn't known")
        options = {**config["data"][modality], **OWN.get(modality, {})}
        alone = {modality: options, "datasets": {name: {"inputs": {modality: modality}}}}
        self.modality = build_modalities({**config, "data": alone}, {})[modality]
        self.encoder: PretrainedEncoder = instantiate(
            node, allow, key, **self.modality.encoder_arguments()
        )
        self.encoder.load()
        self.encoder.eval()

    def reads(self, modalities: Sequence[str]) -> bool:
        """Say whether its modality is among these."""
        return self.modalities[0] in modalities

    def parameters(self, modalities: Sequence[str]) -> int:
        """Count the weights of the other library's network."""
        return sum(weight.numel() for weight in self.encoder.tuned_part().parameters())

    def represent(self, columns: Cells, batch_size: int) -> Represented:
        """Encode rows; those that lack a value or can't be read are left out."""
        (column,) = columns.values()
        store = self.modality.prepare(column).store
        rows = np.flatnonzero(store.has)
        lengths = store.lengths()
        order = rows if lengths is None else rows[np.argsort(lengths[rows], kind="stable")]
        if not len(order):
            return Represented({}, {})
        pooled = []
        with torch.inference_mode():
            for start in range(0, len(order), batch_size):
                inputs = store.rows(order[start : start + batch_size])
                pooled.append(self.encoder.backbone(inputs).pooled.double())
        features = torch.cat(pooled)[torch.from_numpy(np.argsort(order))]
        none = Absent("a pre-trained encoder comes without a head")
        return Represented({ENCODER: Block(rows, features)}, {ENCODER: none})

"""Any text encoder or decoder of Hugging Face's transformers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from datamodules.model_tokenizer import shift_of
from lightning_modules.encoders.pooling import pooling_named, project_rows
from lightning_modules.encoders.pretrained import PretrainedEncoder
from lightning_modules.encoders.transformers_models import (
    architecture_of,
    build_model,
    load_model,
    save_model,
    width_of,
)
from lightning_modules.encoders.transformers_tokenizer import save_tokenizer, tokenizer_of
from lightning_modules.features import Features
from pipeline.errors import UsageError

KEY, INPUT = "encoder.text.model", "input_ids"


class TransformersText(PretrainedEncoder):
    """A network of transformers: sequence = W f(tokens), pooled = W mean, first or last of f.

    W is learnt, and left out if the widths agree. The texts of a pair are told apart as the model
    learnt it. Source: Wolf et al. 2020, "Transformers: state-of-the-art natural language
    processing".

    Args:
        vocab_size: number of token ids, 0 is padding.
        dim: width D of the features.
        model: an id of the hub, or a local folder.
        weights: whether the model's weights are loaded; False: start from scratch.
        pooling: mean, cls (the first token) or last.
        checkpointing: compute again in the backward pass instead of keeping: less memory, slower.
        brought: what ``brings`` returned in the run that made a checkpoint; None: ask the model.

    Raises:
        UsageError: transformers isn't installed, or the tokenizer has more tokens than the model.
        PollinateError: there is no such model, or it takes no texts.
    """

    needs: ClassVar[tuple[str, ...]] = ("transformers", "safetensors")
    network: Any  # the classes of transformers have no common type

    def __init__(
        self,
        vocab_size: int,
        dim: int,
        model: str,
        weights: bool = True,
        pooling: str = "mean",
        checkpointing: bool = False,
        brought: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.known = known = brought or self.brings({"model": model})
        self.dim = dim
        self.model, self.weights = model, weights
        self.pooling = pooling_named(pooling)
        self.network = build_model(known["architecture"], KEY, INPUT)
        self.padding, self.separator = known["padding"] or 0, known["separator"]
        self.shift = shift_of(known["padding"])
        rows = self.network.get_input_embeddings().num_embeddings
        if vocab_size - self.shift > rows:
            raise UsageError(
                f"the tokenizer must have <= {rows:,} tokens, as the model has, got "
                f"{vocab_size - self.shift:,}; take the tokenizer that belongs to {model}"
            )
        if checkpointing:
            self.network.activation_checkpointing_enable({"use_reentrant": False})
        width = width_of(self.network)
        self.project = nn.Identity() if width == dim else nn.Linear(width, dim)

    @classmethod
    def brings(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the architecture, the tokenizer, and how texts must be given to the network.

        Raises:
            PollinateError: there is no such model, or it takes no texts.
            UsageError: transformers isn't installed.
        """
        architecture = architecture_of(options["model"], KEY)
        with torch.device("meta"):
            network = build_model(architecture, KEY, INPUT)
        return {"architecture": architecture, **tokenizer_of(options["model"], KEY, network)}

    def load(self) -> None:
        """Load the weights of the folder or of the hub."""
        if self.weights:
            load_model(self.network, self.model, KEY)

    def save(self, folder: Path, weights: Mapping[str, Tensor]) -> None:
        """Write the network and its tokenizer.

        Raises:
            PollinateError: the network is only a part of a model.
        """
        save_model(self.network, folder, weights, KEY)
        save_tokenizer(folder, self.known)

    def tuned_part(self) -> nn.Module:
        """Return the network of transformers."""
        network: nn.Module = self.network
        return network

    def backbone(self, inputs: Tensor) -> Features:
        """Encode (N, L) token ids: pooled (N, W), sequence (N, L, W) and mask (N, L)."""
        if not len(inputs):
            # a network needs a text; every process must reach the same parameters all the same
            one = self.backbone(inputs.new_ones((1, 1)))
            assert one.sequence is not None
            assert one.mask is not None
            return Features(one.pooled[:0], one.sequence[:0], mask=one.mask[:0])
        mask = inputs != 0
        ids = torch.where(mask, inputs - self.shift, self.padding)
        known = {INPUT: ids, "attention_mask": mask.long()}
        if self.separator is not None:
            known["token_type_ids"] = sides(ids, self.separator) * mask
        rows = self.network(**known).last_hidden_state
        return Features(self.pooling(rows, mask), rows, mask=mask)

    def finish(self, features: Features) -> Features:
        """Project (N, W) and (N, L, W) to D."""
        return project_rows(self.project, features)


def sides(ids: Tensor, separator: int) -> Tensor:
    """Return 0 for tokens up to the first separator, 1 for those after it: (N, L) -> (N, L)."""
    found = (ids == separator).long()
    return (found.cumsum(dim=1) - found).clamp(max=1)

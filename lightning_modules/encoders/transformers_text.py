"""Any text encoder or decoder of Hugging Face's transformers, and its tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from datamodules.features import Features
from datamodules.modalities.tokenization import padding_shift
from lightning_modules.encoders.base import TokenLayer
from lightning_modules.encoders.pooling import pooling_named
from lightning_modules.encoders.pretrained_files import hub_or_cache, local_copy
from lightning_modules.encoders.transformers_models import (
    TransformersEncoder,
    architecture_of,
    build_model,
    local_options,
    save_model,
)
from pollinate.errors import PollinateError, UsageError

ENDLESS = 10**9  # tokens; transformers writes a larger number where no limit is known


def tokenizer_of(model: str, key: str, network: nn.Module) -> dict[str, Any]:
    """Return what texts need on their way to the network.

    Args:
        model: an id of the hub, or a local folder.
        key: the option that names it, for messages.
        network: built, maybe without memory.

    Returns:
        tokenizer: content of tokenizer.json; padding: its id, or None; separator: the id after
        which a pair's second text begins, or None if the network doesn't tell the two apart;
        limit: most tokens of a text, or None.

    Raises:
        PollinateError: there is no fast tokenizer.
    """
    from transformers import AutoTokenizer

    place = local_copy(model)
    try:
        with hub_or_cache(place is None):
            found = AutoTokenizer.from_pretrained(
                str(place or model), use_fast=True, **local_options(place)
            )
        core = found.backend_tokenizer
        if place is not None:
            # without any of its files transformers makes up one without words
            next(name for name in found.vocab_files_names.values() if (place / name).is_file())
    except Exception as error:  # without its files a tokenizer fails in many ways
        raise PollinateError(
            f"{key} must have a tokenizer, {place or model} has no tokenizer.json that can be "
            "read; save it there: AutoTokenizer.from_pretrained(NAME).save_pretrained(FOLDER)"
        ) from error
    limits = [found.model_max_length, positions(network)]
    return {
        "tokenizer": core.to_str(),
        "padding": found.pad_token_id,
        "separator": separator(found) if two_sided(found, network) else None,
        "limit": min((n for n in limits if n is not None and n < ENDLESS), default=None),
    }


def save_tokenizer(
    folder: Path, known: Mapping[str, Any], end: int | None = None, template: str | None = None
) -> None:
    """Write a tokenizer that transformers can load.

    Args:
        folder: exists.
        known: what ``tokenizer_of`` returned.
        end: the id that ends a text; None: nothing is said of it.
        template: the model's chat template, as it was written.
    """
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer.from_str(known["tokenizer"])
    padding = None if known["padding"] is None else core.id_to_token(known["padding"])
    names = ["input_ids", "attention_mask"]
    if known["separator"] is not None:
        names.insert(1, "token_type_ids")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=padding,
        model_input_names=names,
        model_max_length=known["limit"] or ENDLESS,
        eos_token=None if end is None else core.id_to_token(end),
        chat_template=template,
    )
    tokenizer.save_pretrained(folder)


def two_sided(tokenizer: Any, network: Any) -> bool:
    """Say whether the network is told the two texts of a pair apart."""
    sides = getattr(network.config, "type_vocab_size", None) or 0
    return sides > 1 and "token_type_ids" in tokenizer.model_input_names


def separator(tokenizer: Any) -> int | None:
    """Return the token before the first one of a pair's second text; None: both are one to it."""
    encoded = tokenizer.backend_tokenizer.encode("a", "b")
    if 1 not in encoded.type_ids:
        return None
    before: int = encoded.ids[encoded.type_ids.index(1) - 1]
    return before


def positions(network: Any) -> int | None:
    """Return how many tokens the learnt positions allow, None if there are none.

    Some models number positions from beyond their padding's id.
    """
    most = getattr(network.config, "max_position_embeddings", None)
    for module in network.modules():
        if isinstance(module, nn.Embedding) and module.num_embeddings == most:
            return int(most) - (0 if module.padding_idx is None else module.padding_idx + 1)
    return most


KEY, INPUT = "encoder.text.model", "input_ids"


class TransformersText(TransformersEncoder):
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
        assets: what ``assets_of`` returned in the run that made a checkpoint; None: ask the model.

    Raises:
        UsageError: transformers isn't installed, or the tokenizer has more tokens than the model.
        PollinateError: there is no such model, or it takes no texts.

    Examples:
        >>> import torch, pollinate as po
        >>> encoder = po.encoders.TransformersText(85, dim=8, model="text_model", weights=False)
        >>> features = encoder(torch.tensor([[4, 7, 9, 0, 0], [4, 7, 9, 1, 2]]))  # 0 is padding
        >>> features.pooled.shape, features.sequence.shape
        (torch.Size([2, 8]), torch.Size([2, 5, 8]))
    """

    key: ClassVar[str] = KEY
    takes: ClassVar[str] = INPUT

    def __init__(
        self,
        vocab_size: int,
        dim: int,
        model: str,
        weights: bool = True,
        pooling: str = "mean",
        checkpointing: bool = False,
        assets: Mapping[str, Any] | None = None,
    ) -> None:
        known = assets or self.assets_of({"model": model})
        super().__init__(dim, model, weights, checkpointing, known)
        self.pooling = pooling_named(pooling)
        self.padding, self.separator = known["padding"] or 0, known["separator"]
        self.shift = padding_shift(known["padding"])
        rows = self.network.get_input_embeddings().num_embeddings
        if vocab_size - self.shift > rows:
            raise UsageError(
                f"the tokenizer must have <= {rows:,} tokens, as the model has, got "
                f"{vocab_size - self.shift:,}; take the tokenizer that belongs to {model}"
            )

    @classmethod
    def assets_of(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the architecture, the tokenizer, and how texts must be given to the network.

        Raises:
            PollinateError: there is no such model, or it takes no texts.
            UsageError: transformers isn't installed.
        """
        architecture = architecture_of(options["model"], KEY)
        with torch.device("meta"):
            network = build_model(architecture, KEY, INPUT)
        return {"architecture": architecture, **tokenizer_of(options["model"], KEY, network)}

    def save(self, folder: Path, weights: Mapping[str, Tensor]) -> None:
        """Write the network and its tokenizer.

        Raises:
            PollinateError: the network is only a part of a model.
        """
        save_model(self.network, folder, weights, KEY)
        self.save_companions(folder, {})

    def save_companions(self, folder: Path, options: Mapping[str, Any]) -> None:
        """Write the tokenizer."""
        save_tokenizer(folder, self.known)

    def token_layers(self) -> list[TokenLayer]:
        """Return the network's embedding of tokens.

        From zeros integrated gradients need a third of the steps that they need from padding.
        """
        return [TokenLayer(self.network.get_input_embeddings())]

    def backbone(self, inputs: Tensor) -> Features:
        """Encode (N, L) token ids: pooled (N, W), sequence (N, L, W) and mask (N, L)."""
        if not len(inputs):
            return self.no_rows(inputs.new_ones((1, 1)))
        mask = inputs != 0
        ids = torch.where(mask, inputs - self.shift, self.padding)
        known = {INPUT: ids, "attention_mask": mask.long()}
        if self.separator is not None:
            known["token_type_ids"] = sides(ids, self.separator) * mask
        rows = self.network(**known).last_hidden_state
        return Features(self.pooling(rows, mask), rows, mask=mask)


def sides(ids: Tensor, separator: int) -> Tensor:
    """Return 0 for tokens up to the first separator, 1 for those after it: (N, L) -> (N, L)."""
    found = (ids == separator).long()
    return (found.cumsum(dim=1) - found).clamp(max=1)

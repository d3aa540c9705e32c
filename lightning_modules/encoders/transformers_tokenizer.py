"""The tokenizer of a model of transformers, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from lightning_modules.encoders.hub import hub
from lightning_modules.encoders.places import local_copy
from lightning_modules.encoders.transformers_models import here
from pipeline.errors import PollinateError

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
        with hub(place is None):
            found = AutoTokenizer.from_pretrained(str(place or model), use_fast=True, **here(place))
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


def save_tokenizer(folder: Path, known: Mapping[str, Any]) -> None:
    """Write a tokenizer that transformers can load.

    Args:
        folder: exists.
        known: what ``tokenizer_of`` returned.
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

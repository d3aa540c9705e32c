"""Whether another model can read this run's rows as they are prepared for its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lightning_modules.transfer.library import Backbone
from pipeline.errors import UsageError

if TYPE_CHECKING:
    from datamodules.mixed import MixedDataModule
    from datamodules.modalities.base import Modality
    from lightning_modules.multitask import MultiTaskModule
    from lightning_modules.network import MultiTaskNetwork

LIMITS = ("max_length", "longest")  # of which a source may have more than this run
IGNORED = ("words", "decoding")  # what the numbers that reach an encoder don't depend on


def require_inputs(modality: str, module: MultiTaskModule, name: str) -> None:
    """Check that a step will have the rows, and not only what a frozen encoder made of them.

    Raises:
        UsageError: it won't.
    """
    tuning = module.network.tunings.get(modality)
    if tuning is not None and tuning.caches:
        raise UsageError(
            f"{name} must see the rows of {modality}, of which the frozen encoder's features are "
            f"kept in their place; set encoder.{modality}.tune.cache=false"
        )


def require_same_rows(
    modality: str,
    theirs: Mapping[str, Modality] | None,
    network: MultiTaskNetwork,
    datamodule: MixedDataModule,
    name: str,
) -> None:
    """Check that a source's rows were prepared as this run's are.

    Args:
        modality: of the rows.
        theirs: the source's modalities; None: of another library's model.
        network: of the source.
        datamodule: of this run.
        name: of the source.

    Raises:
        UsageError: sizes, channels, rates or tokenizers differ.
    """
    own = datamodule.modalities[modality]
    if theirs is not None:
        wrong = differing(own.options(), theirs[modality].options())
    else:
        encoder = network.encoder(modality)
        assert isinstance(encoder, Backbone)
        wrong = unlike(own, encoder.encoder.known)
    if wrong:
        key, (here, there) = next(iter(wrong.items()))
        raise UsageError(
            f"{name} reads other rows of {modality}: {key} is {there} there, {here} here; "
            f"{advice(modality, key, there, name, theirs is None)}"
        )


def differing(own: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return {option: (here, there)} of what stands in the way."""
    found = {}
    for key in sorted((own.keys() | other.keys()) - set(IGNORED)):
        here, there = own.get(key), other.get(key)
        fits = here <= there if key in LIMITS and here and there else here == there
        if not fits:
            found[key] = (brief(here), brief(there))
    return found


def unlike(own: Modality, known: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return {option: (here, there)} for another library's model, which brings ``known``."""
    here = own.state_dict().get("brought", {})
    if "tokenizer" in known:
        same = all(here.get(key) == known[key] for key in ("tokenizer", "padding"))
        return {} if same else {"tokenizer": ("another", "its own")}
    if "extractor" in known:
        same = here.get("extractor") == known["extractor"]
        return {} if same else {"extractor": ("another", "its own")}
    size = own.options()["size"]
    fits = not known["fixed"] or size == known["size"]
    return {} if fits else {"size": (size, known["size"])}


def advice(modality: str, key: str, there: Any, name: str, library: bool) -> str:
    """Return what to write."""
    if key in ("tokenizer", "extractor") and library:
        return f"take an encoder that brings the same: encoder/{modality}=transformers"
    if key == "tokenizer":
        return f"take it over: data.text.tokenizer={name}, or the same pre-trained encoder/text"
    if modality == "audio":
        return "give data.audio the source's options, or the same pre-trained encoder/audio"
    return f"set data.{modality}.{key}={str(there).replace(' ', '')}"


def brief(value: Any) -> Any:
    """Return a value as a message has room for: the start of a long text."""
    return value[:8] if isinstance(value, str) else value

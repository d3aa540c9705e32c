"""Takes adapters over so that they say what they did: by their scales, and of their own kind."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping

from torch import nn

from lightning_modules.source_models import SourceModel
from lightning_modules.tuning.base import peft_scale
from lightning_modules.tuning.routed_adapters import PLACE, LowRank
from pollinate.errors import UsageError
from pollinate.overrides import override
from pollinate.program import shell_command

UP = re.compile(r"\.lora_B\.(?:default\.)?weight$|\.up\.weight$")  # B of B A
PART = re.compile(rf"\.lora_|\.{PLACE}\.")  # what follows a layer's name in that of an adapter
SHARED, MAGNITUDE = f".{PLACE}.shared.", ".lora_magnitude_vector"


def scale_factors(
    source: SourceModel, network: nn.Module, matched: Mapping[str, str]
) -> dict[str, float]:
    """Return what to multiply B with: s' B' = s B, where s = alpha / rank is another here.

    Args:
        source: the other model.
        network: of this run.
        matched: {name here: name there}.

    Returns:
        {name here: factor}, without factors of 1.

    Raises:
        UsageError: nothing says which alpha the source's adapters have.
    """
    found: dict[str, float] = {}
    for own, there in matched.items():
        scale = scale_here(network, own)
        if scale is None:
            continue
        factor = scale_there(source, there) / scale
        if not math.isclose(factor, 1):
            found[own] = factor
    return found


def scale_here(network: nn.Module, name: str) -> float | None:
    """Return s of a weight B of an adapter; None: the weight is another."""
    end = UP.search(name)
    if end is None:
        return None
    place = network.get_submodule(name[: end.start()])
    if isinstance(place, LowRank):
        return place.scale
    return float(place.scaling["default"]) if "lora_B" in end[0] else None  # type: ignore[index]  # peft's layer


def scale_there(source: SourceModel, name: str) -> float:
    """Return s of a weight B, by what the source says of itself."""
    rank = source.weights[name].shape[1]
    if source.spec is None:
        return scale_of_peft(source, name, rank)
    modality = name.split(".")[1]
    return float(source.spec["config"]["encoder"][modality]["tune"]["alpha"]) / rank


def scale_of_peft(source: SourceModel, name: str, rank: int) -> float:
    """Return s by peft's adapter_config.json."""
    config = source.adapter
    if config is None:
        raise UsageError(
            f"{source.name} holds adapters, and no adapter_config.json beside them says their "
            "alpha; give the folder that peft wrote"
        )
    layer = name[: re.search(PART, name).start()]  # type: ignore[union-attr]  # it is an adapter's
    return peft_scale(config, layer, rank)


def refuse_other_kinds(
    source: SourceModel,
    matched: Mapping[str, str],
    missing: Iterable[str],
    unexpected: Iterable[str],
) -> None:
    """Check that no layer is taken without the adapter that was trained beside it, or another's.

    Args:
        source: the other model.
        matched: {name here: name there}.
        missing: names here that have nothing there.
        unexpected: names there that have no place here.

    Raises:
        UsageError: one would be; the message says what to write.
    """
    layers = {layer_of(name) for name in matched.values()}
    adapted = {layer_of(name) for name in matched.values() if PART.search(name)}
    here = {layer_of(name) for name in matched if PART.search(name)}
    plain = [name for name in missing if MAGNITUDE in name and layer_of(name) in here]
    if plain:
        raise UsageError(
            f"the adapters of {source.name} learn no lengths apart, as dora here does; write "
            f"{tune_option(plain[0])}=lora"
        )
    left = [
        name
        for name in unexpected
        if PART.search(name)
        and layer_of(name) in layers
        and (layer_of(name) not in adapted or MAGNITUDE in name or SHARED in name)
    ]
    if not left:
        return
    name = left[0]
    if layer_of(name) in adapted:
        same = "=dora" if MAGNITUDE in name else ".shared_rank=R, with its R"
        raise UsageError(
            f"{source.name} has {name}, which has no place in the adapters of this run; write "
            f"{tune_option(name)}{same}"
        )
    chosen = override("checkpoint", source.name)
    export = shell_command("export", chosen, "merge=true", "task=TASK", "output=FOLDER")
    raise UsageError(
        f"{source.name} trained adapters, and this run has none to take them; choose the same "
        f"{tune_option(name)}, or write the source's weights with the adapters in them: {export}, "
        "then transfer.source=FOLDER"
    )


def layer_of(name: str) -> str:
    """Return the layer that a weight, or an adapter's weight, belongs to."""
    found = PART.search(name)
    stem = name.rpartition(".")[0] if found is None else name[: found.start()]
    return stem.removesuffix(".base_layer")


def tune_option(name: str) -> str:
    """Return the key that chooses the adapters of a weight."""
    parts = name.split(".")
    return f"encoder.{parts[1] if parts[0] == 'encoders' else 'MODALITY'}.tune"

"""The adapters of models that are merged, and what becomes of them in the result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lightning_modules.building import TUNE, tasks_of_modality
from lightning_modules.merging.adapter_merge import AdapterMerge
from lightning_modules.merging.adapters import EncoderAdapters, network_adapters
from lightning_modules.merging.base import MergeMethod
from lightning_modules.predictor import Predictor
from lightning_modules.tuning.base import Tuning
from pipeline.merging.parents import Parent
from pollinate.errors import PollinateError, UsageError
from pollinate.instantiate import find_target
from pollinate.recipes import recipe_of

ENCODERS = "encoders"  # name of the network's part
Tunes = Mapping[str, Mapping[str, Any] | None]


def parent_adapters(parent: Parent, allow: Sequence[str]) -> dict[str, EncoderAdapters]:
    """Return {modality: what stands beside the frozen weights of its encoder} of a model.

    Args:
        parent: its network is built if an encoder has adapters, but no weight is read into memory.
        allow: packages, besides our own, whose classes may be named.

    Raises:
        PollinateError: weights have other names or shapes than its configuration says.
    """
    if not any(adapts(node, name, allow) for name, node in parent.config["encoder"].items()):
        return {}
    predictor = Predictor.from_spec(parent.spec, allow)
    network = predictor.single_network
    start = f"{ENCODERS}."
    weights = {n.removeprefix(start): v for n, v in parent.weights().items() if n.startswith(start)}
    try:
        network.encoders.load_state_dict(weights, assign=True)
    except RuntimeError as error:
        raise PollinateError(
            f"the weights of {parent.path} don't fit its configuration: {error}; use the version "
            "of pollinate that wrote it"
        ) from error
    datasets = parent.config["data"]["datasets"]
    readers = {
        one: tasks_of_modality(one, datasets, network.routes, predictor.tasks)
        for one in network.encoders
    }
    return network_adapters(network, readers, parent.label)


def adapts(node: Mapping[str, Any] | None, modality: str, allow: Sequence[str]) -> bool:
    tune = node.get(TUNE) if node else None
    if not tune:
        return False
    kind = find_target(tune["_target_"], allow, f"encoder.{modality}.{TUNE}")
    return issubclass(kind, Tuning) and kind.adapts


def merged_tunes(method: MergeMethod, adapters: Sequence[Mapping[str, EncoderAdapters]]) -> Tunes:
    """Return {modality: the node of what stands beside the result's encoder} where models adapt.

    Args:
        method: None stands beside an encoder, unless it keeps adapters.
        adapters: of each model.

    Raises:
        UsageError: the method merges adapters, and there are none, or of kinds without a sum.
    """
    found: dict[str, list[EncoderAdapters]] = {}
    for own in adapters:
        for modality, one in own.items():
            found.setdefault(modality, []).append(one)
    if not isinstance(method, AdapterMerge):
        return dict.fromkeys(found)
    if not found:
        raise UsageError(
            f"{type(method).__name__} merges adapters, and no model has some; train with "
            "tune=lora, or merge whole weights: method=average"
        )
    return {name: recipe_of(method.tuning(some)).node() for name, some in found.items()}

"""Adapters of models that are merged: what stands beside which frozen weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor, nn

from lightning_modules.network import MultiTaskNetwork
from lightning_modules.state_dicts import StateDict
from lightning_modules.tuning.adapted_layers import AdaptedLayer
from lightning_modules.tuning.base import PeftAdapter
from lightning_modules.tuning.peft_adapters import LowRankTuning
from pollinate.errors import UsageError

WEIGHT = ".weight"


@dataclass(frozen=True)
class EncoderAdapters:
    """What training put beside the frozen weights of an encoder's backbone.

    model: whose, for messages.
    tuning: of which kind they are.
    layers: {name of a layer's weight in the network: {task: the layer's factors}}.
    names: {name of a weight of the backbone in the network, without adapters: that beside them}.
    part: what precedes the backbone's own names: ``encoders.text.network.``.
    """

    model: str
    tuning: LowRankTuning
    layers: Mapping[str, Mapping[str, AdaptedLayer]]
    names: Mapping[str, str]
    part: str

    @property
    def rank(self) -> int:
        """The largest of its layers'."""
        return max(one.rank for own in self.layers.values() for one in own.values())

    @cached_property
    def shared(self) -> dict[str, AdaptedLayer]:
        """{name of a layer's weight: its factors}, which are the same for all tasks.

        Raises:
            UsageError: they aren't.
        """
        tasks = sorted({task for own in self.layers.values() for task in own})
        if any(len({id(one) for one in own.values()}) > 1 for own in self.layers.values()):
            raise UsageError(
                f"{self.model} has adapters of its own for each of {', '.join(tasks)}, and so no "
                "single weight of a layer that could be merged; keep them: method=task_adapters, "
                "or merge predictions: method=ensemble"
            )
        return {name: next(iter(own.values())) for name, own in self.layers.items()}


def network_adapters(
    network: MultiTaskNetwork, readers: Mapping[str, Sequence[str]], model: str
) -> dict[str, EncoderAdapters]:
    """Return {modality: its adapters} of a network.

    Args:
        network: with the weights of its encoders.
        readers: {modality: tasks that are predicted from it}.
        model: what it is called.
    """
    found = {}
    for modality, tuning in adapting_tunings(network).items():
        encoder, part = network.encoder(modality), backbone_name(network, modality)
        layers: dict[str, dict[str, AdaptedLayer]] = {}
        known: dict[str, AdaptedLayer] = {}
        for place, task in enumerate(readers[modality]):
            if not place or encoder.routing is not None:  # else they are those of the first task
                known = tuning.layers(encoder, task)
            for name, layer in known.items():
                layers.setdefault(f"{part}{name}{WEIGHT}", {})[task] = layer
        names = {
            f"{part}{bare}": f"{part}{own}" for bare, own in tuning.bare_names(encoder).items()
        }
        found[modality] = EncoderAdapters(model, tuning, layers, names, part)
    return found


def adapting_tunings(network: MultiTaskNetwork) -> dict[str, LowRankTuning]:
    """Return {modality: how its encoder is adapted} of those that are."""
    return {n: one for n, one in network.tunings.items() if isinstance(one, LowRankTuning)}


def backbone_name(network: MultiTaskNetwork, modality: str) -> str:
    """Return what precedes the names of an encoder's backbone: ``encoders.text.network.``."""
    backbone: nn.Module = network.encoder(modality).tuned_part()
    return next(f"{name}." for name, one in network.named_modules() if one is backbone)


def without_adapters(state: StateDict, adapters: Mapping[str, EncoderAdapters]) -> StateDict:
    """Return {name without adapters: tensor} of a state; what stands beside W is left out."""
    if not adapters:
        return state
    parts = tuple(one.part for one in adapters.values())
    rest = {name: tensor for name, tensor in state.items() if not name.startswith(parts)}
    names = {bare: own for one in adapters.values() for bare, own in one.names.items()}
    return rest | {bare: state[own] for bare, own in names.items()}


class FoldedState(Mapping[str, Tensor]):
    """A state whose layers have their adapters in their weights, each made when it is looked at.

    Args:
        frozen: {name: tensor} without adapters.
        layers: {name of a layer's weight: its factors}.
    """

    def __init__(self, frozen: StateDict, layers: Mapping[str, AdaptedLayer]) -> None:
        self.frozen, self.layers = frozen, layers

    def __getitem__(self, name: str) -> Tensor:
        layer = self.layers.get(name)
        return self.frozen[name] if layer is None else layer.weight(self.frozen[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self.frozen)

    def __len__(self) -> int:
        return len(self.frozen)


def fold(state: StateDict, adapters: Mapping[str, EncoderAdapters]) -> StateDict:
    """Return a state, without adapters, with them in the weights.

    Raises:
        UsageError: each task has its own.
    """
    layers = {name: one for own in adapters.values() for name, one in own.shared.items()}
    return FoldedState(state, layers) if layers else state


def add_adapters(
    network: MultiTaskNetwork,
    state: StateDict,
    adapters: Mapping[str, Mapping[str, PeftAdapter]],
) -> dict[str, Tensor]:
    """Return {name in a network with adapters: tensor}.

    Args:
        network: of that form; its encoders are given these weights.
        state: {name without adapters: tensor}.
        adapters: {modality: {task: its adapter}}.
    """
    found = dict(state)
    for modality, tuning in adapting_tunings(network).items():
        encoder, part = network.encoder(modality), backbone_name(network, modality)
        names = tuning.bare_names(encoder)
        frozen = {own: found.pop(f"{part}{bare}") for bare, own in names.items()}
        encoder.tuned_part().load_state_dict(frozen, strict=False)
        tuning.put(encoder, adapters[modality])
        own = encoder.tuned_part().state_dict()
        found |= {f"{part}{name}": frozen.get(name, value) for name, value in own.items()}
    return found

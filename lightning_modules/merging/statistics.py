"""BatchNorm's statistics, measured again: a merged layer sees inputs that no parent's has seen."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from datamodules.batch import Batch
from lightning_modules.merging.models import Models
from lightning_modules.network import MultiTaskNetwork

SEEN = ("running_mean", "running_var")


def norms(network: nn.Module) -> dict[str, _BatchNorm]:
    """Return {name: layer} of those with running statistics."""
    return {
        name: layer
        for name, layer in network.named_modules()
        if isinstance(layer, _BatchNorm) and layer.track_running_stats
    }


def stale(models: Models, network: nn.Module) -> list[str]:
    """Return the layers whose statistics don't fit the merged model.

    These are the ones in a part, an encoder or the trunk, whose weights differ between the models.
    Where statistics are the same in several models the layer was frozen, and it stays so.
    """
    layers = norms(network)
    if not layers:
        return []
    changed, shifted = set(), set()
    for unit, tensors, start in models.stream():
        others = [*tensors[1:], *([] if start is None else [start])]
        if models.is_merged(unit) and not all(torch.equal(tensors[0], one) for one in others):
            changed |= {part_of(name) for name in unit.names}
        alone = len(tensors) == 1
        if alone or not all(torch.equal(tensors[0], one) for one in tensors[1:]):
            shifted |= {n.rpartition(".")[0] for n in unit.names if n.endswith(SEEN)}
    return [name for name in layers if part_of(name) in changed and name in shifted]


def part_of(name: str) -> str:
    """Return the part of a network that a name is in: ``encoders.image`` or ``trunk``."""
    first, _, rest = name.partition(".")
    return first if first == "trunk" else f"{first}.{rest.partition('.')[0]}"


def recompute(
    network: MultiTaskNetwork, layers: Collection[str], batches: Iterable[Mapping[str, Batch]]
) -> None:
    """Let layers' statistics be the means over batches, all else being as when it answers.

    The mean of a layer's batch means and of its batch variances, all batches alike, as in Izmailov
    et al. 2018, "Averaging weights leads to wider optima", section 3.2.

    Args:
        network: its weights stay.
        layers: names.
        batches: {data set: rows} of some training steps.
    """
    with learning(network, layers), torch.inference_mode():
        for batch in batches:
            network(batch)


@contextmanager
def learning(network: nn.Module, layers: Collection[str]) -> Iterator[None]:
    """Have layers average the statistics of what they are given, from none on."""
    chosen = [layer for name, layer in norms(network).items() if name in layers]
    before = [layer.momentum for layer in chosen]
    network.eval()
    for layer in chosen:
        layer.reset_running_stats()
        layer.momentum = None  # all batches alike
        layer.train()
    try:
        yield
    finally:
        for layer, momentum in zip(chosen, before, strict=True):
            layer.momentum = momentum
            layer.eval()

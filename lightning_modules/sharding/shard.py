"""Spreads a network over devices (FSDP2)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.utils import _pytree

from lightning_modules.features import Features
from lightning_modules.network import MultiTaskNetwork
from lightning_modules.tuning.blocks import blocks_of

# gradients of 16 bits are added in 32
POLICY = MixedPrecisionPolicy(reduce_dtype=torch.float32)

# FSDP looks for tensors in what a module returns, to gather its weights again before its backward
if Features not in _pytree.SUPPORTED_NODES:
    _pytree.register_dataclass(Features)


def shard(network: MultiTaskNetwork, mesh: DeviceMesh) -> None:
    """Spread the weights over the processes of a mesh, in place; each keeps its piece of each.

    A part's weights are gathered for its forward and once more for its backward, so a device holds
    its pieces and one whole part at a time. Weights that belong to no part (gates and stitches of a
    trunk, single numbers) stay whole on every device.

    Args:
        network: the same on every process.
        mesh: one-dimensional.
    """
    if isinstance(network, FSDPModule):
        return  # done, before an earlier loop of the trainer
    numbers = {p for p in network.parameters() if p.ndim == 0}  # FSDP refuses them
    for part in parts(network):
        if any(p not in numbers and not isinstance(p, DTensor) for p in part.parameters()):
            part.register_forward_hook(without_views)
            fully_shard(part, mesh=mesh, mp_policy=POLICY, ignored_params=numbers)
    rest = {p for p in network.parameters() if not isinstance(p, DTensor)}
    fully_shard(network, mesh=mesh, mp_policy=POLICY, ignored_params=rest)


def without_views(module: nn.Module, inputs: Any, output: Any) -> Any:
    """Copy what is a view: an operation in place on it would drop the hook that FSDP puts there."""
    return _pytree.tree_map_only(Tensor, lambda t: t.clone() if t._is_view() else t, output)


def parts(network: MultiTaskNetwork) -> Iterator[nn.Module]:
    """Yield what is gathered at a time, inner parts first: an encoder's blocks, then its rest.

    The layers on top of a backbone are parts of their own: kept features go through them alone.
    """
    for modality in network.encoders:
        encoder = network.encoder(modality)
        backbone = encoder.tuned_part()
        yield from blocks_of(backbone)
        if backbone is not encoder:
            yield from (layer for layer in encoder.children() if layer is not backbone)
        yield encoder
    yield from network.fusions.values()
    yield from network.trunk.called_parts()
    yield from network.heads.values()

"""FSDP2: sharding a network over devices, and clipping sharded gradients."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.utils import _pytree

from datamodules.features import Features
from lightning_modules.encoders.language_model import AnsweredFeatures
from lightning_modules.freezing import blocks_of
from lightning_modules.network import MultiTaskNetwork

# gradients of 16 bits are added in 32
POLICY = MixedPrecisionPolicy(reduce_dtype=torch.float32)

# FSDP looks for tensors in what a module returns, to gather its weights again before its backward
for kind in (Features, AnsweredFeatures):
    if kind not in _pytree.SUPPORTED_NODES:
        _pytree.register_dataclass(kind)


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
    for part in shardable_parts(network):
        if any(p not in numbers and not isinstance(p, DTensor) for p in part.parameters()):
            part.register_forward_hook(clone_views)
            fully_shard(part, mesh=mesh, mp_policy=POLICY, ignored_params=numbers)
    rest = {p for p in network.parameters() if not isinstance(p, DTensor)}
    fully_shard(network, mesh=mesh, mp_policy=POLICY, ignored_params=rest)


def clone_views(module: nn.Module, inputs: Any, output: Any) -> Any:
    """Copy what is a view: an operation in place on it would drop the hook that FSDP puts there."""
    return _pytree.tree_map_only(Tensor, lambda t: t.clone() if t._is_view() else t, output)


def shardable_parts(network: MultiTaskNetwork) -> Iterator[nn.Module]:
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


def clip_norm(parameters: Iterable[nn.Parameter], limit: float) -> Tensor:
    """Scale all gradients by min(1, limit / norm), in place; return the norm before: ().

    norm^2 = sum of squares of whole gradients + sum over processes of those of their pieces. As in
    torch's own, which takes no mixture of both, the norm gets 1e-6 more in the division.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    pieces = [g.to_local() for g in gradients if isinstance(g, DTensor)]
    whole = [g for g in gradients if not isinstance(g, DTensor)]
    square = sum_of_squares(pieces)
    if pieces:
        square = square.to(pieces[0].device)
        distributed.all_reduce(square)
    norm = (square + sum_of_squares(whole).to(square.device)).sqrt()
    factor = (limit / (norm + 1e-6)).clamp(max=1.0)
    for gradient in (*pieces, *whole):
        gradient.mul_(factor.to(gradient))
    return norm


def clip_value(parameters: Iterable[nn.Parameter], limit: float) -> None:
    """Cut all entries of gradients to [-limit, limit], in place."""
    for parameter in parameters:
        gradient = parameter.grad
        if gradient is not None:
            own = gradient.to_local() if isinstance(gradient, DTensor) else gradient
            own.clamp_(-limit, limit)


def sum_of_squares(tensors: list[Tensor]) -> Tensor:
    """Return the sum of all entries' squares: (), float64."""
    if not tensors:
        return torch.zeros((), dtype=torch.float64)
    return torch.stack([t.double().square().sum() for t in tensors]).sum()

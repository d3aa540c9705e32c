"""What processes average: one list of tensors, alike on all of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor, distributed, nn

from lightning_modules.processes import together
from lightning_modules.traffic import Traffic

BUCKET = 1 << 23  # numbers that are sent at once


def trained(module: nn.Module, moved: Iterable[nn.Parameter]) -> dict[str, Tensor]:
    """Return the parameters that an optimizer moves, in the order of names, tied ones once.

    The list doesn't depend on the rows that a process had: else one's head of a task would be
    averaged with another's head of another task.
    """
    kept = {id(parameter) for parameter in moved}
    found = {name: p.data for name, p in module.named_parameters() if id(p) in kept}
    return dict(sorted(found.items()))


def statistics(network: nn.Module) -> dict[str, Tensor]:
    """Return the network's buffers, running statistics of norms say, in the order of names."""
    return dict(sorted(network.named_buffers()))


def mean_over_processes(tensors: Mapping[str, Tensor], traffic: Traffic) -> dict[str, Tensor]:
    """Return the processes' mean of each tensor, added up in 32 bits or more.

    What is no float, such as the batches that a BatchNorm has counted, has no mean: it is rank 0's.

    Args:
        tensors: of the same names, shapes and order on all processes.
        traffic: counts what is sent.
    """
    if not together():
        return dict(tensors)
    found = {}
    for names in buckets(tensors):
        parts = [tensors[name] for name in names]
        floating = parts[0].is_floating_point()
        kind = torch.promote_types(parts[0].dtype, torch.float32) if floating else parts[0].dtype
        flat = torch.cat([part.detach().flatten().to(kind) for part in parts])
        if floating:
            distributed.all_reduce(flat)
            flat /= distributed.get_world_size()
            traffic.add(flat.numel())
        else:
            distributed.broadcast(flat, 0)
        for name, own, mean in zip(
            names, parts, torch.split(flat, [part.numel() for part in parts]), strict=True
        ):
            found[name] = mean.view_as(own).to(own.dtype)
    return {name: found[name] for name in tensors}


def buckets(tensors: Mapping[str, Tensor]) -> Iterator[list[str]]:
    """Yield names of tensors of one type, about BUCKET numbers at a time."""
    for dtype in dict.fromkeys(tensor.dtype for tensor in tensors.values()):
        bucket: list[str] = []
        size = 0
        for name, tensor in tensors.items():
            if tensor.dtype == dtype:
                bucket.append(name)
                size += tensor.numel()
                if size >= BUCKET:
                    yield bucket
                    bucket, size = [], 0
        if bucket:
            yield bucket

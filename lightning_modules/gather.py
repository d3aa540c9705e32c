"""Rows and losses of all processes, with their gradient."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, distributed
from torch.nn import functional

from lightning_modules.processes import together


def gathered(rows: Tensor) -> tuple[Tensor, int]:
    """Return the rows of all processes (sum N_r, ...), and where this one's begin.

    The gradient of each process' losses reaches the rows of the others.
    """
    if not together():
        return rows, 0
    count = torch.tensor([len(rows)], device=rows.device)
    counts = [torch.zeros_like(count) for _ in range(distributed.get_world_size())]
    distributed.all_gather(counts, count)
    sizes = [int(one) for one in counts]
    # all processes must give as many rows: the missing ones are zeros
    padded = functional.pad(rows, (*(0, 0) * (rows.dim() - 1), 0, max(sizes) - len(rows)))
    parts = [part[:size] for part, size in zip(Gather.apply(padded), sizes, strict=True)]
    return torch.cat(parts), sum(sizes[: distributed.get_rank()])


class Gather(torch.autograd.Function):
    """Tensors of all processes; the gradient of each is summed over all processes."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> tuple[Tensor, ...]:
        """Return the tensors of rank 0, 1, ...: all of one shape."""
        parts = [torch.empty_like(rows) for _ in range(distributed.get_world_size())]
        distributed.all_gather(parts, rows.contiguous())
        return tuple(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """Return the sum of all processes' gradients of this one's tensor."""
        total = torch.stack(gradients)
        distributed.all_reduce(total)
        return total[distributed.get_rank()]


def of_all_processes(losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the mean of the processes' losses; the gradient stays this process's own."""
    if not losses or not together():
        return dict(losses)
    own = torch.stack([loss.detach() for loss in losses.values()])
    mean = own.clone()
    distributed.all_reduce(mean)
    mean /= distributed.get_world_size()
    differences = (mean - own).unbind()
    return {t: loss + d for (t, loss), d in zip(losses.items(), differences, strict=True)}

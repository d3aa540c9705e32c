"""Sums over the processes of a run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional

from lightning_modules.traffic import Traffic

WIDTH = 512  # columns of a Jacobian that are multiplied at once
BLOCK = 1 << 22  # columns that are sent at once
BUCKET = 1 << 23  # numbers of gradients that are sent at once


@dataclass(frozen=True)
class Ranks:
    """The processes whose gradients' mean is the gradient of a step.

    size: how many there are.
    traffic: counts what this process sends.
    """

    size: int = 1
    traffic: Traffic = field(default_factory=Traffic)

    def sum_(self, tensor: Tensor) -> Tensor:
        """Replace a tensor by its sum over processes."""
        if self.size > 1:
            distributed.all_reduce(tensor)
            self.traffic.add(tensor.numel())
        return tensor

    def mean_(self, tensor: Tensor) -> Tensor:
        """Replace a tensor by its mean over processes."""
        return self.sum_(tensor).div_(self.size) if self.size > 1 else tensor

    def gramian(self, jacobian: Tensor) -> Tensor:
        """Return the Gramian of the mean of the processes' Jacobians (T, P): (T, T), float64.

        Each process sums a part of the columns over all (reduce-scatter), multiplies it, and the
        parts' Gramians are added: T P + T^2 numbers are sent. The mean of the processes' own
        Gramians would be something else.
        """
        if self.size == 1:
            return gramian(jacobian)
        total = jacobian.new_zeros(len(jacobian), len(jacobian), dtype=torch.float64)
        for block in torch.split(jacobian, BLOCK, dim=1):
            total += gramian(self._scatter(block))
        return self.sum_(total) / self.size**2

    def _scatter(self, block: Tensor) -> Tensor:
        """Return this process's columns of the sum: (T, P) -> (T, P / size)."""
        padded = functional.pad(block, (0, -block.shape[1] % self.size))
        parts = padded.view(len(block), self.size, -1).transpose(0, 1).contiguous()
        own = torch.empty_like(parts[0])
        # the name since torch 2.14, which warns of the one before
        newer = getattr(distributed, "reduce_scatter_single", None)
        (newer or distributed.reduce_scatter_tensor)(own, parts.flatten(0, 1))
        self.traffic.add(parts.numel())
        return own


def gramian(jacobian: Tensor) -> Tensor:
    """Return J J^T: (T, P) -> (T, T), float64; sums of many columns are added in float64."""
    rows = jacobian.float() if jacobian.element_size() < 4 else jacobian
    whole = rows.shape[1] - rows.shape[1] % WIDTH
    parts = rows[:, :whole].view(len(rows), -1, WIDTH).transpose(0, 1)  # (P / WIDTH, T, WIDTH)
    tail = rows[:, whole:]
    return torch.bmm(parts, parts.mT).double().sum(dim=0) + (tail @ tail.T).double()


def average_gradients(parameters: Iterable[nn.Parameter], ranks: Ranks) -> None:
    """Replace ``.grad`` by its mean over processes.

    A parameter that got a gradient on no process keeps None; one that got none here, but
    elsewhere, gets the others'.
    """
    trained = [p for p in parameters if p.requires_grad]
    if ranks.size == 1 or not trained:
        return
    has = torch.tensor([p.grad is not None for p in trained], dtype=torch.int32)
    has = has.to(trained[0].device)
    distributed.all_reduce(has, op=distributed.ReduceOp.MAX)
    reached = [p for p, flag in zip(trained, has.tolist(), strict=True) if flag]
    for bucket in _buckets(reached):
        for parameter in bucket:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        grads = [parameter.grad for parameter in bucket if parameter.grad is not None]
        flat = ranks.mean_(torch.cat([grad.flatten() for grad in grads]))
        parts = torch.split(flat, [grad.numel() for grad in grads])
        for grad, part in zip(grads, parts, strict=True):
            grad.copy_(part.view_as(grad))


def _buckets(parameters: Sequence[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """Yield parameters of one dtype, about BUCKET numbers at a time."""
    for dtype in dict.fromkeys(p.dtype for p in parameters):
        bucket: list[nn.Parameter] = []
        for parameter in parameters:
            if parameter.dtype == dtype:
                bucket.append(parameter)
                if sum(p.numel() for p in bucket) >= BUCKET:
                    yield bucket
                    bucket = []
        if bucket:
            yield bucket


def broadcast_buffers(module: nn.Module, ranks: Ranks) -> None:
    """Give every process the first one's buffers: running statistics of norms, say."""
    if ranks.size > 1:
        for buffer in module.buffers():
            distributed.broadcast(buffer, 0)
            ranks.traffic.add(buffer.numel() if buffer.is_floating_point() else 0)

"""Clipping gradients of which some lie in pieces on several devices."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, distributed, nn
from torch.distributed.tensor import DTensor


def clip_norm(parameters: Iterable[nn.Parameter], limit: float) -> Tensor:
    """Scale all gradients by min(1, limit / norm), in place; return the norm before: ().

    norm^2 = sum of squares of whole gradients + sum over processes of those of their pieces. As in
    torch's own, which takes no mixture of both, the norm gets 1e-6 more in the division.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    pieces = [g.to_local() for g in gradients if isinstance(g, DTensor)]
    whole = [g for g in gradients if not isinstance(g, DTensor)]
    square = squares(pieces)
    if pieces:
        square = square.to(pieces[0].device)
        distributed.all_reduce(square)
    norm = (square + squares(whole).to(square.device)).sqrt()
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


def squares(tensors: list[Tensor]) -> Tensor:
    """Return the sum of all entries' squares: (), float64."""
    if not tensors:
        return torch.zeros((), dtype=torch.float64)
    return torch.stack([t.double().square().sum() for t in tensors]).sum()

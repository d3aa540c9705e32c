"""Weighted sums of models' tensors, name by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

StateDict = Mapping[str, Tensor]


def weighted_sum(tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Return sum_i w_i x_i in the tensors' own type, added up in 32 bits or more.

    What is no float, such as the batches that a BatchNorm has counted, has no mean: it is taken
    from the model with the largest weight, the first of several.

    Args:
        tensors: of one shape and type, >= 1.
        weights: one a tensor.
    """
    first = tensors[0]
    if not first.is_floating_point():
        return tensors[max(range(len(weights)), key=lambda place: weights[place])].clone()
    kind = torch.promote_types(first.dtype, torch.float32)
    total = torch.zeros_like(first, dtype=kind)
    for tensor, weight in zip(tensors, weights, strict=True):
        total.add_(tensor.to(kind), alpha=weight)
    return total.to(first.dtype)


def weighted_state(states: Sequence[StateDict], weights: Sequence[float]) -> dict[str, Tensor]:
    """Return the weighted sum of each tensor that the states have, in the order of names.

    Tensors that share their storage stay one: tied weights aren't added up twice.

    Args:
        states: with the same names and shapes.
        weights: one a state.
    """
    done: dict[tuple[object, ...], Tensor] = {}
    found = {}
    for name in sorted(states[0]):
        tensors = [state[name] for state in states]
        key = tuple(storage_key(tensor) for tensor in tensors)
        if key not in done:
            done[key] = weighted_sum(tensors, weights)
        found[name] = done[key]
    return found


def storage_key(tensor: Tensor) -> tuple[object, ...]:
    """Return what tells tensors that are one from tensors that are equal."""
    return tensor.data_ptr(), tuple(tensor.shape), tensor.stride()

"""Weights that lie in pieces on several devices, put together."""

from __future__ import annotations

from torch import Tensor
from torch.distributed.tensor import DTensor


def whole(weight: Tensor) -> Tensor:
    """Return all of a weight, differentiable: each process's piece gets its piece of the gradient.

    For a trunk that reads its parts' weights outside their forward, in a penalty say, which every
    process must do alike. A weight that isn't sharded is returned as it is.
    """
    return weight.full_tensor() if isinstance(weight, DTensor) else weight

"""What several models say together: the mean of their probabilities, as logits again."""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn import functional


def mean_softmax(outputs: Tensor, dim: int = -1) -> Tensor:
    """Return log 1/M sum_m softmax(z_m), the logits of the mean: (M, N, ...) -> (N, ...).

    Where all logits are 0 there is no answer, and they stay 0.

    Args:
        outputs: logits z_m of M models.
        dim: of the classes, counted without the models.
    """
    place = dim if dim < 0 else dim + 1
    logits = functional.log_softmax(outputs.float(), dim=place)
    together = logits.logsumexp(dim=0) - math.log(len(outputs))
    answered = outputs.ne(0).any(dim=0).any(dim=dim, keepdim=True)
    return together.where(answered, 0.0)


def mean_sigmoid(outputs: Tensor) -> Tensor:
    """Return the logits of 1/M sum_m sigmoid(z_m): (M, N, C) -> (N, C)."""
    logits = outputs.float()
    yes, no = functional.logsigmoid(logits), functional.logsigmoid(-logits)
    return yes.logsumexp(dim=0) - no.logsumexp(dim=0)

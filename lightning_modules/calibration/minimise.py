"""The smallest loss of a few numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

STEPS = 15  # of L-BFGS


def minimise(
    loss: Callable[..., Tensor], start: Sequence[Tensor], rows: Sequence[Tensor] = ()
) -> list[Tensor]:
    """Return the numbers at which a smooth loss is smallest, found by L-BFGS from a start.

    Args:
        loss: of the numbers and then of ``rows``.
        start: the numbers, tensors of any shape.
        rows: what the loss is of; may have been made in inference mode.
    """
    with torch.enable_grad(), torch.inference_mode(mode=False):
        own = [one.detach().clone() for one in rows]
        numbers = [one.detach().clone().requires_grad_() for one in start]
        optimizer = torch.optim.LBFGS(numbers, max_iter=STEPS, line_search_fn="strong_wolfe")

        def closure() -> Tensor:
            optimizer.zero_grad()
            found = loss(*numbers, *own)
            found.backward()  # type: ignore[no-untyped-call]  # torch's
            return found

        optimizer.step(closure)  # type: ignore[no-untyped-call]  # torch's
    return [one.detach() for one in numbers]

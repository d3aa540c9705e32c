"""Geometric mean of the losses."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_modules.balancers.base import Scalarization


class GeometricMean(Scalarization):
    """s = P (prod_t L_t)^(1/P), so w_t = s / (P L_t): the scale of a loss does not matter.

    P times the paper's mean, so that equal losses are summed. Losses must not be negative; those of
    0 count as the smallest positive number.
    Source: Chennupati et al. 2019, "MultiNet++".

    Args:
        tasks: names of all tasks of the run.

    Examples:
        >>> import torch, pollinate as po
        >>> balancer = po.balancers.GeometricMean(["mood", "stars"])
        >>> losses = torch.tensor([2.0, 8.0], requires_grad=True)
        >>> balancer.backward({"mood": losses[0], "stars": losses[1]})
        >>> losses.grad  # each task's weight: 4 / (2 L)
        tensor([2.0000, 0.5000])
    """

    def scalarize(self, losses: Tensor, tasks: Sequence[str]) -> Tensor:
        mean = losses.clamp(min=torch.finfo(losses.dtype).tiny).log().mean().exp()
        return mean * len(tasks)

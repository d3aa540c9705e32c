"""Local SGD."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from lightning_modules.parameter_averaging.base import ParameterAveraging


class LocalSGD(ParameterAveraging):
    """w <- mean_r w_r, every H steps.

    With H = 1, plain SGD and equal weights it is the synchronous run.

    Source: Stich 2019, "Local SGD Converges Fast and Communicates Little", algorithm 1. Deviations:
    a validation and an epoch's end synchronise, too; any optimizer takes the inner steps.

    Examples:
        >>> import torch, pollinate as po
        >>> method = po.averaging.LocalSGD(every_n_steps=8)
        >>> start, mean = {"w": torch.tensor([1.0])}, {"w": torch.tensor([0.5])}
        >>> method.step(start, mean)  # all processes go on from the mean of their weights
        {'w': tensor([0.5000])}
    """

    def step(self, start: Mapping[str, Tensor], mean: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return dict(mean)

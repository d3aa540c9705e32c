"""Temperature scaling: one number for all logits, or one for each label."""

from __future__ import annotations

import math
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional

from lightning_modules.calibration.base import Calibrator, Surprise, as_precise
from lightning_modules.golden_section import golden_section

HOTTEST = math.log(30.0)  # of log T, on either side
PRECISION = 1e-3  # of log T


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Return -log softmax(z)_y of logits (N, C) and class numbers (N,): (N,)."""
    return functional.cross_entropy(logits, target, reduction="none")


class Temperature(Calibrator):
    """z / T, with T = argmin_T sum_i -log p(y_i | z_i / T) + (log T)^2 / 2.

    The last term, a prior, keeps T near 1 where rows are few, and finite where all are right. The
    order of the classes stays, and so does every answer. Source: Guo et al. 2017, "On calibration
    of modern neural networks", section 4.2; the prior is added.

    Args:
        surprise: -log p(y | z) of logits (N, ...) and targets (N, ...); None: that of a softmax.

    Examples:
        >>> import torch, pollinate as po
        >>> logits = torch.tensor([[6.0, 0.0]] * 100)
        >>> target = torch.tensor([0] * 80 + [1] * 20)  # right in 80 %, sure to 99.8 %
        >>> calibrator = po.calibration.Temperature().fit(logits, target)
        >>> calibrator(logits).softmax(dim=1)[0, 0].round(decimals=1)
        tensor(0.8000)
    """

    numbers = ("temperature",)

    def __init__(self, surprise: Surprise | None = None) -> None:
        self.surprise = cross_entropy if surprise is None else surprise
        self.temperature = torch.ones(())

    def fit(self, output: Tensor, target: Tensor) -> Self:
        logits = as_precise(output)

        def loss(log_temperature: Tensor) -> Tensor:
            scaled = logits / log_temperature.exp().item()
            surprise = self.surprise(scaled, target).double().sum()
            return (surprise + log_temperature.square() / 2).reshape(1)

        found = golden_section(loss, -HOTTEST, HOTTEST, PRECISION)
        self.temperature = found.exp().float().reshape(())
        return self

    def __call__(self, output: Tensor) -> Tensor:
        return as_precise(output) / self.temperature.to(output.device)


class LabelTemperatures(Calibrator):
    """z_c / T_c for each label c, T_c as ``Temperature`` of a sigmoid: p > 1/2 stays p > 1/2.

    Examples:
        >>> import torch, pollinate as po
        >>> logits = torch.tensor([[6.0, 1.4]] * 100)
        >>> target = torch.tensor([[1.0, 1.0]] * 80 + [[0.0, 0.0]] * 20)
        >>> calibrator = po.calibration.LabelTemperatures().fit(logits, target)
        >>> calibrator(logits).sigmoid()[0].round(decimals=1)
        tensor([0.8000, 0.8000])
    """

    numbers = ("temperature",)

    def __init__(self) -> None:
        self.temperature = torch.ones(1)

    def fit(self, output: Tensor, target: Tensor) -> Self:
        logits, wanted = (
            as_precise(output),
            target.to(torch.promote_types(output.dtype, torch.float32)),
        )

        def loss(log_temperature: Tensor) -> Tensor:
            scaled = logits / log_temperature.exp().to(logits)
            surprise = functional.binary_cross_entropy_with_logits(scaled, wanted, reduction="none")
            return surprise.double().sum(dim=0) + log_temperature.square() / 2

        found = golden_section(loss, -HOTTEST, HOTTEST, PRECISION, logits.shape[1])
        self.temperature = found.exp().float()
        return self

    def __call__(self, output: Tensor) -> Tensor:
        return as_precise(output) / self.temperature.to(output.device)

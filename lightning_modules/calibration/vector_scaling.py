"""Vector scaling: a factor and a shift for each class."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor
from torch.nn import functional

from lightning_modules.calibration.base import Calibrator, as_precise
from lightning_modules.calibration.minimise import minimise
from lightning_modules.calibration.temperature import Temperature


class VectorScaling(Calibrator):
    """w * z + b: argmin of sum_i -log softmax(w z_i + b)_{y_i} + (|w T - 1|^2 + |b|^2) / 2.

    T is that of ``Temperature``, to which the last term, a prior, draws w. It may change which
    class is likeliest: a task's answer stays that of the logits as they were. Source: Guo et al.
    2017, section 4.2; the prior is added.

    Examples:
        >>> import torch, pollinate as po
        >>> logits = torch.zeros(100, 2)  # says half and half
        >>> target = torch.tensor([0] * 80 + [1] * 20)
        >>> calibrator = po.calibration.VectorScaling().fit(logits, target)
        >>> calibrator(logits).softmax(dim=1)[0, 0].round(decimals=1)
        tensor(0.8000)
    """

    numbers = ("weight", "bias")

    def __init__(self) -> None:
        self.weight = torch.ones(1)
        self.bias = torch.zeros(1)

    def fit(self, output: Tensor, target: Tensor) -> Self:
        logits = as_precise(output)
        start = 1 / Temperature().fit(logits, target).temperature.to(logits)

        def loss(weight: Tensor, bias: Tensor, logits: Tensor, target: Tensor) -> Tensor:
            scaled = weight * start * logits + bias
            prior = (weight - 1).square().sum() + bias.square().sum()
            return functional.cross_entropy(scaled, target) + prior / 2 / len(logits)

        first = logits[0]
        begin = torch.ones_like(first), torch.zeros_like(first)  # w T and b
        weight, bias = minimise(loss, begin, (logits, target))
        self.weight, self.bias = (weight * start).cpu(), bias.cpu()
        return self

    def __call__(self, output: Tensor) -> Tensor:
        logits = as_precise(output)
        return logits * self.weight.to(logits) + self.bias.to(logits)

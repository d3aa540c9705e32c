"""One factor for all thresholds between ordered classes, and a shift for each."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor

from lightning_modules.calibration.base import Calibrator, Surprise, as_precise
from lightning_modules.calibration.minimise import minimise
from lightning_modules.calibration.temperature import Temperature


class ThresholdShifts(Calibrator):
    """a z_k + b_k: argmin of sum_i -log p(y_i | a z_i + b) + ((a T - 1)^2 + |b|^2) / 2.

    z_k is the logit of being above class k. Thresholds that were learnt each by itself make classes
    between them too rare or too frequent, which no temperature mends. T is that of ``Temperature``,
    to which the last term, a prior, draws a. It may change which class is likeliest: a task's
    answer stays that of the logits as they were. It is the cumulative logit model of McCullagh
    1980, "Regression models for ordinal data", equation 2.3, of the thresholds' own logits.

    Args:
        surprise: -log p(y | z) of logits (N, K - 1) and classes (N,).

    Examples:
        >>> import torch, pollinate as po
        >>> task = po.tasks.Ordinal(classes=3)
        >>> logits = torch.tensor([[0.1, -0.1]] * 100)  # the middle class is rare: 5 %
        >>> target = torch.tensor([0] * 20 + [1] * 60 + [2] * 20)
        >>> calibrator = po.calibration.ThresholdShifts(task.surprise).fit(logits, target)
        >>> task.class_probabilities(calibrator(logits))[0].round(decimals=1)
        tensor([0.2000, 0.6000, 0.2000])
    """

    numbers = ("weight", "bias")

    def __init__(self, surprise: Surprise) -> None:
        self.surprise = surprise
        self.weight = torch.ones(())
        self.bias = torch.zeros(1)

    def fit(self, output: Tensor, target: Tensor) -> Self:
        logits = as_precise(output)
        start = 1 / Temperature(self.surprise).fit(logits, target).temperature.to(logits)

        def loss(weight: Tensor, bias: Tensor, logits: Tensor, target: Tensor) -> Tensor:
            prior = (weight - 1).square() + bias.square().sum()
            surprise = self.surprise(weight * start * logits + bias, target)
            return surprise.mean() + prior / 2 / len(logits)

        begin = torch.ones_like(start), torch.zeros_like(logits[0])  # a T and b
        weight, bias = minimise(loss, begin, (logits, target))
        self.weight, self.bias = (weight * start).cpu(), bias.cpu()
        return self

    def __call__(self, output: Tensor) -> Tensor:
        logits = as_precise(output)
        return logits * self.weight.to(logits) + self.bias.to(logits)

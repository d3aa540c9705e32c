"""A mixture of two temperatures and of all classes alike."""

from __future__ import annotations

import math
from typing import Self

import torch
from torch import Tensor

from lightning_modules.calibration.base import Calibrator, as_precise
from lightning_modules.calibration.minimise import minimise
from lightning_modules.calibration.temperature import Temperature, cross_entropy

PRIOR = (2.0, 0.0, -2.0)  # log weights where there are no rows: nearly the temperature alone
SPREAD = 3.0  # of the log weights about them


class TemperatureMixture(Calibrator):
    """log(w_1 softmax(z / T) + w_2 softmax(z) + w_3 / C): for logits that are wrong in two ways.

    A single temperature that makes the doubtful rows right leaves the sure ones too sure, or the
    other way. T and w, of sum 1, are those of the smallest sum_i -log p(y_i), with a wide prior. The
    order of the classes stays, and so does every answer. Source: Zhang, Kailkhura & Han 2020,
    "Mix-n-Match: ensemble and compositional methods for uncertainty calibration in deep learning",
    equation 8; here T is fitted with the weights, and the prior is added.

    Examples:
        >>> import torch, pollinate as po
        >>> logits = torch.tensor([[9.0, 0.0]] * 100)
        >>> target = torch.tensor([0] * 80 + [1] * 20)  # right in 80 %, sure to 99.99 %
        >>> calibrator = po.calibration.TemperatureMixture().fit(logits, target)
        >>> calibrator(logits).softmax(dim=1)[0, 0].round(decimals=1)
        tensor(0.8000)
    """

    numbers = ("temperature", "weight")

    def __init__(self) -> None:
        self.temperature = torch.ones(())
        self.weight = torch.tensor([1.0, 0.0, 0.0])

    def fit(self, output: Tensor, target: Tensor) -> Self:
        logits = as_precise(output)
        count = logits.shape[1]
        start = Temperature().fit(logits, target).temperature.to(logits).log()
        prior = torch.tensor(PRIOR).to(logits)

        def loss(
            log_temperature: Tensor, free: Tensor, logits: Tensor, target: Tensor, plain: Tensor
        ) -> Tensor:
            own = -cross_entropy(logits / log_temperature.exp(), target)
            parts = torch.stack([own, plain, torch.full_like(own, -math.log(count))], dim=1)
            surprise = -(parts + free.log_softmax(dim=0)).logsumexp(dim=1).mean()
            away = ((free - prior) / SPREAD).square().sum() + log_temperature.square()
            return surprise + away / 2 / len(logits)

        rows = logits, target, -cross_entropy(logits, target)
        log_temperature, free = minimise(loss, (start, prior), rows)
        self.temperature, self.weight = log_temperature.exp().cpu(), free.softmax(dim=0).cpu()
        return self

    def __call__(self, output: Tensor) -> Tensor:
        logits = as_precise(output)
        weight = self.weight.to(logits).log()
        parts = [
            (logits / self.temperature.to(logits)).log_softmax(dim=1) + weight[0],
            logits.log_softmax(dim=1) + weight[1],
        ]
        both = torch.logaddexp(*parts)
        return torch.logaddexp(both, weight[2] - math.log(logits.shape[1]))

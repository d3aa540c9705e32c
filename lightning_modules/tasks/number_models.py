"""What is predicted of a number besides its mean: nothing, its spread, or its quantiles."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.distributions import Normal
from torch.nn import functional

from lightning_modules.calibration.base import Calibrator
from lightning_modules.calibration.variance_scaling import VarianceScaling
from lightning_modules.conformal.intervals import (
    IntervalPredictor,
    QuantileIntervals,
    ScaledIntervals,
)
from lightning_modules.tasks.base import weighted_mean

NARROWEST = -6.0  # log of the smallest spread in standard deviations of the target
LEVELS = (0.05, 0.5, 0.95)  # of quantiles


class NumberModel(ABC):
    """Reads the columns of a number's output.

    width: of the head, columns before they are in the target's unit.
    """

    width: int

    @abstractmethod
    def rescaled(self, columns: Tensor, mean: float, std: float) -> Tensor:
        """Return outputs in the target's unit of a head's columns (N, width)."""

    @abstractmethod
    def loss(self, output: Tensor, target: Tensor, std: float, huber: float | None) -> Tensor:
        """Return the loss of outputs and targets (N,): (N,)."""

    @abstractmethod
    def point(self, output: Tensor) -> Tensor:
        """Return the number that is answered: (N,)."""

    @abstractmethod
    def shifted(self, shift: Tensor) -> Tensor:
        """Return numbers (N,) that are added to an answer as what is added to outputs."""

    @abstractmethod
    def neutral(self, mean: float, std: float) -> float | Tensor:
        """Return the output that says nothing of a row."""

    @abstractmethod
    def together(self, outputs: Tensor, weights: Tensor | None) -> Tensor:
        """Return what several models say: (M, N, ...) -> (N, ...)."""

    @abstractmethod
    def calibrators(self) -> Mapping[str, Callable[[], Calibrator]]:
        """Return {name: gives what may calibrate outputs}."""

    @abstractmethod
    def intervals(self) -> IntervalPredictor:
        """Return what makes intervals of calibrated outputs."""

    def distribution(self, output: Tensor) -> Normal | None:
        """Return p(y | x), None where outputs don't say it."""
        return None


class Point(NumberModel):
    """A number alone: outputs (N,), calibrated ones (m, log s), (N, 2)."""

    width = 1

    def rescaled(self, columns: Tensor, mean: float, std: float) -> Tensor:
        return mean + std * columns.squeeze(-1)

    def loss(self, output: Tensor, target: Tensor, std: float, huber: float | None) -> Tensor:
        return distance((output - target) / std, huber)

    def point(self, output: Tensor) -> Tensor:
        return output[:, 0] if output.dim() == 2 else output

    def shifted(self, shift: Tensor) -> Tensor:
        return shift

    def neutral(self, mean: float, std: float) -> float | Tensor:
        return mean

    def together(self, outputs: Tensor, weights: Tensor | None) -> Tensor:
        return weighted_mean(outputs, weights)

    def calibrators(self) -> Mapping[str, Callable[[], Calibrator]]:
        return {"variance": VarianceScaling}

    def intervals(self) -> IntervalPredictor:
        return ScaledIntervals()

    def distribution(self, output: Tensor) -> Normal | None:
        if output.dim() == 1:
            return None
        mean, log_scale = output.float().unbind(dim=-1)
        return Normal(mean, log_scale.exp(), validate_args=False)


class Spread(Point):
    """A number and the spread about it, which the input may change: outputs (m, log s), (N, 2).

    L = e^2 / 2 + log s + sg(e)^2 / (2 s^2) - log s_min, e = (m - y) in standard deviations of the
    target, sg: without a gradient. So the number learns as it does alone, whatever the spread is,
    and the spread learns the likelihood. Source: Seitzer et al. 2022, "On the pitfalls of
    heteroscedastic uncertainty estimation", equation 5 with beta = 1 for the mean.
    """

    width = 2

    def rescaled(self, columns: Tensor, mean: float, std: float) -> Tensor:
        number, spread = columns.unbind(dim=-1)
        log_scale = NARROWEST + functional.softplus(spread - NARROWEST)  # near spread, above that
        return torch.stack([mean + std * number, math.log(std) + log_scale], dim=-1)

    def loss(self, output: Tensor, target: Tensor, std: float, huber: float | None) -> Tensor:
        number, log_scale = output.unbind(dim=-1)
        error, log_scale = (number - target) / std, log_scale - math.log(std)
        own = error.detach().square() * (-2 * log_scale).exp() / 2
        return distance(error, huber) + log_scale + own - NARROWEST

    def shifted(self, shift: Tensor) -> Tensor:
        return torch.stack([shift, torch.zeros_like(shift)], dim=-1)

    def neutral(self, mean: float, std: float) -> Tensor:
        return torch.tensor([mean, math.log(std)], dtype=torch.float64)

    def together(self, outputs: Tensor, weights: Tensor | None) -> Tensor:
        """Return mean and variance of the mixture: sum w (s^2 + m^2) - (sum w m)^2."""
        numbers, log_scales = outputs.double().unbind(dim=-1)
        mean = weighted_mean(numbers, weights)
        spread = weighted_mean((2 * log_scales).exp() + (numbers - mean).square(), weights)
        return torch.stack([mean, spread.log() / 2], dim=-1).to(outputs.dtype)


class Quantiles(NumberModel):
    """Quantiles at .05, .5 and .95: outputs (N, 3), of which the middle one is answered.

    L = sum_q 2 max(q e, (q - 1) e), e = (y - z_q) in standard deviations of the target: at q = .5
    the absolute error. Source: Koenker & Bassett 1978, "Regression quantiles".
    """

    width = len(LEVELS)

    def rescaled(self, columns: Tensor, mean: float, std: float) -> Tensor:
        """Return the median, and the others at distances > 0 from it."""
        low, middle, high = columns.unbind(dim=-1)
        parts = [middle - functional.softplus(low), middle, middle + functional.softplus(high)]
        return mean + std * torch.stack(parts, dim=-1)

    def loss(self, output: Tensor, target: Tensor, std: float, huber: float | None) -> Tensor:
        error = (target[:, None] - output) / std
        level = torch.tensor(LEVELS, device=output.device, dtype=output.dtype)
        return (2 * torch.maximum(level * error, (level - 1) * error)).sum(dim=-1)

    def point(self, output: Tensor) -> Tensor:
        return output[:, len(LEVELS) // 2] if output.dim() == 2 else output

    def shifted(self, shift: Tensor) -> Tensor:
        return shift[:, None].expand(-1, len(LEVELS))

    def neutral(self, mean: float, std: float) -> Tensor:
        """Return those of a normal distribution."""
        level = torch.tensor(LEVELS, dtype=torch.float64)
        found: Tensor = mean + std * torch.special.ndtri(level)
        return found

    def together(self, outputs: Tensor, weights: Tensor | None) -> Tensor:
        return weighted_mean(outputs, weights)

    def calibrators(self) -> Mapping[str, Callable[[], Calibrator]]:
        return {}

    def intervals(self) -> IntervalPredictor:
        return QuantileIntervals()


NUMBER_MODELS: Mapping[str, type[NumberModel]] = {
    "constant": Point,
    "input": Spread,
    "quantiles": Quantiles,
}


def distance(error: Tensor, huber: float | None) -> Tensor:
    """Return e^2 / 2, linear beyond ``huber`` if that is given."""
    if huber is None:
        return error.square() / 2
    return functional.huber_loss(error, torch.zeros_like(error), reduction="none", delta=huber)


class NumberHead(nn.Module):
    """A linear layer to a number model's columns, in the target's unit: (N, dim) -> (N, ...).

    In float32 at least.
    """

    def __init__(self, dim: int, model: NumberModel, mean: float, std: float) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, model.width)
        self.model = model
        self.mean, self.std = mean, std

    def forward(self, rows: Tensor) -> Tensor:
        columns = self.linear(rows)
        precise = columns.to(torch.promote_types(columns.dtype, torch.float32))
        return self.model.rescaled(precise, self.mean, self.std)

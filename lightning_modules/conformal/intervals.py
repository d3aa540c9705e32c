"""Intervals of numbers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lightning_modules.calibration.variance_scaling import with_scale
from lightning_modules.conformal.base import ConformalPredictor, Coverage


class IntervalPredictor(ConformalPredictor):
    """Intervals [l(x, t), h(x, t)] that grow with a threshold t.

    Examples:
        >>> import pollinate as po
        >>> isinstance(po.conformal.ScaledIntervals(), po.conformal.IntervalPredictor)
        True
    """

    @abstractmethod
    def intervals(self, output: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
        """Return the lower and upper ends: (N,) each."""

    def answers(
        self, output: Tensor, coverage: float, per_class: bool = False
    ) -> list[dict[str, Any]]:
        """Return {"low": , "high": } in the target's unit; there are no classes."""
        low, high = self.intervals(output, self.threshold(coverage))
        pairs = zip(low.tolist(), high.tolist(), strict=True)
        return [{"low": one, "high": other} for one, other in pairs]

    def reached(
        self, output: Tensor, target: Tensor, coverage: float, per_class: bool = False
    ) -> Coverage:
        low, high = self.intervals(output, self.threshold(coverage))
        inside = (low <= target) & (target <= high)
        return Coverage(inside.double().mean().item(), (high - low).double().mean().item())

    def cell_types(self) -> dict[str, type]:
        return {"_low": float, "_high": float}

    def cells(self, answer: Mapping[str, Any]) -> dict[str, Any]:
        return {"_low": answer.get("low"), "_high": answer.get("high")}


class ScaledIntervals(IntervalPredictor):
    """m +- t s, t a quantile of |y_i - m_i| / s_i over the calibration rows.

    Outputs are (m, log s), (N, 2), or m alone, (N,), with s = 1. Source: Lei et al. 2018,
    "Distribution-free predictive inference for regression", section 5.2.

    Examples:
        >>> import torch, pollinate as po
        >>> numbers, target = torch.zeros(99), torch.arange(1.0, 100.0)
        >>> intervals = po.conformal.ScaledIntervals().fit(numbers, target)
        >>> intervals.answers(torch.tensor([10.0]), coverage=0.9)
        [{'low': -80.0, 'high': 100.0}]
    """

    def row_scores(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_scale = with_scale(output).unbind(dim=-1)
        scores = (target.to(mean) - mean).abs() / log_scale.exp()
        return scores, torch.ones(len(scores)), torch.zeros(len(scores), dtype=torch.int64)

    def intervals(self, output: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
        mean, log_scale = with_scale(output).unbind(dim=-1)
        margin = threshold * log_scale.exp()
        return mean - margin, mean + margin


class QuantileIntervals(IntervalPredictor):
    """[q_low(x) - t, q_high(x) + t], t a quantile of max(q_low - y, y - q_high).

    Outputs are quantiles, lowest first, (N, Q), of which the first and last are taken. Source:
    Romano, Patterson & Candes 2019, "Conformalized quantile regression", equations 6 to 8.

    Examples:
        >>> import torch, pollinate as po
        >>> quantiles, target = torch.tensor([[-1.0, 0.0, 1.0]]).expand(99, 3), torch.arange(99.0)
        >>> intervals = po.conformal.QuantileIntervals().fit(quantiles, target)
        >>> intervals.answers(quantiles[:1], coverage=0.9)
        [{'low': -89.0, 'high': 89.0}]
    """

    def row_scores(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        wanted = target.to(output)
        scores = torch.maximum(output[:, 0] - wanted, wanted - output[:, -1])
        return scores, torch.ones(len(scores)), torch.zeros(len(scores), dtype=torch.int64)

    def intervals(self, output: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
        low, high = output[:, 0] - threshold, output[:, -1] + threshold
        # a threshold below 0 may turn a narrow interval round
        middle = (low + high) / 2
        return torch.minimum(low, middle), torch.maximum(high, middle)

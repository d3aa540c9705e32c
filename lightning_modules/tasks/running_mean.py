"""A mean over rows that come in batches."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric


class RunningMean(Metric):
    """total / count, in float64, of what rows add to the two."""

    full_state_update = False
    higher_is_better = True

    def __init__(self) -> None:
        super().__init__()
        for name in ("total", "count"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.total: Tensor
        self.count: Tensor

    def compute(self) -> Tensor:
        """Return the mean, NaN of nothing."""
        return self.total / self.count

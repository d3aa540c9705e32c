"""Task arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from lightning_modules.merging.average import require_weight_per_model
from lightning_modules.merging.models import Models, ResultTensor
from lightning_modules.merging.task_vectors import TaskVectorMerge


class TaskArithmetic(TaskVectorMerge):
    """theta = theta_0 + s sum_i w_i tau_i; a negative w_i takes away what a model learnt.

    Source: Ilharco et al. 2023, "Editing models with task arithmetic", section 2.

    Args:
        scale: s; if several, the best on validation data is used.
        weights: w_i of each model; null: 1.

    Examples:
        >>> import torch, pollinate as po
        >>> base = {"w": torch.tensor([1.0, 1.0])}
        >>> a, b = {"w": torch.tensor([2.0, 1.0])}, {"w": torch.tensor([1.0, 3.0])}
        >>> method = po.merging.TaskArithmetic(scale=0.5, weights=[1, -1])  # what b learnt goes
        >>> method.merge_state_dicts({"a": a, "b": b}, base).state
        {'w': tensor([1.5000, 0.0000])}
    """

    def __init__(
        self, scale: float | Sequence[float] = 0.3, weights: Sequence[float] | None = None
    ) -> None:
        super().__init__(scale)
        self.weights = None if weights is None else [float(weight) for weight in weights]

    def prepare(self, models: Models) -> None:
        require_weight_per_model(self._of(models), models)

    def details(self, models: Models) -> dict[str, Any]:
        return {"weights": dict(zip(models.labels, self._of(models), strict=True))}

    def combine(self, taus: Sequence[Tensor], unit: ResultTensor, first: int) -> Tensor:
        weights = [1.0 if self.weights is None else self.weights[i] for i in unit.owners]
        total = weights[0] * taus[0]
        for weight, tau in zip(weights[1:], taus[1:], strict=True):
            total += weight * tau
        return total

    def _of(self, models: Models) -> list[float]:
        return [1.0] * len(models) if self.weights is None else self.weights

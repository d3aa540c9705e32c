"""Weighted average of the weights."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from lightning_modules.merging.base import MergeMethod, MergeResult
from lightning_modules.merging.evaluator import MergeEvaluator
from lightning_modules.merging.models import Models, owner_weights
from lightning_modules.state_dicts import weighted_sum
from pollinate.errors import UsageError


class Average(MergeMethod):
    """theta = sum_i w_i theta_i, sum_i w_i = 1, over the models that have the tensor.

    Source: the uniform soup of Wortsman et al. 2022, "Model soups", section 2, where w_i = 1 / k.

    Args:
        weights: relative weight of each model, >= 0; null: all the same.

    Raises:
        UsageError: a weight is negative, or all are 0.

    Examples:
        >>> import torch, pollinate as po
        >>> a, b = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)
        >>> method = po.merging.Average(weights=[3, 1])
        >>> found = method.merge_state_dicts({"a": a.state_dict(), "b": b.state_dict()})
        >>> torch.allclose(found.state["weight"], 0.75 * a.weight + 0.25 * b.weight)
        True
        >>> found.coefficients
        {'weights': {'a': 0.75, 'b': 0.25}}
    """

    def __init__(self, weights: Sequence[float] | None = None) -> None:
        if weights is not None and not (min(weights, default=-1) >= 0 and sum(weights) > 0):
            raise UsageError(f"weights must be >= 0 and not all 0, got {list(weights)}")
        self.weights = None if weights is None else [float(weight) for weight in weights]

    def merge(self, models: Models, evaluator: MergeEvaluator) -> MergeResult:
        """Average all tensors.

        Raises:
            UsageError: there isn't one weight per model.
        """
        weights = self.weights or [1.0] * len(models)
        require_weight_per_model(weights, models)
        total = sum(weights)
        named = dict(zip(models.labels, (weight / total for weight in weights), strict=True))
        return MergeResult(average(models, weights), {"weights": named})


def average(models: Models, weights: Sequence[float]) -> dict[str, Tensor]:
    """Return the models' average with relative weights."""
    return models.merged(
        lambda unit, tensors, _: weighted_sum(tensors, owner_weights(unit, weights)), weights
    )


def require_weight_per_model(weights: Sequence[float], models: Models) -> None:
    """Check that there is one weight for each model."""
    if len(weights) != len(models):
        raise UsageError(
            f"weights must be one for each of the {len(models)} models "
            f"({', '.join(models.labels)}), got {len(weights)}"
        )

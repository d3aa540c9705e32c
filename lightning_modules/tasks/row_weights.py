"""How much each row's loss counts: class weights and focal loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from pollinate.errors import PollinateError, UsageError
from pollinate.suggest import hint
from pollinate.yaml_words import meant_word

ClassWeights = str | Mapping[str, float] | None
BALANCED = "balanced"


def require_class_weights(weights: ClassWeights) -> None:
    """Check what a user gave.

    Raises:
        UsageError: it is neither null, balanced, nor positive numbers by class.
    """
    if isinstance(weights, str) and weights != BALANCED:
        raise UsageError(
            f"class_weights must be null, balanced or {{class: weight}}, got {weights}"
        )
    for name, weight in weights.items() if isinstance(weights, Mapping) else ():
        if not weight > 0:
            raise UsageError(f"class_weights must be > 0, got {weight} for {name}")


def class_weights(
    weights: ClassWeights, classes: Sequence[str], counts: Sequence[int]
) -> Tensor | None:
    """Return one weight per class (C,), whose mean over the training rows is 1; None: all are 1.

    Balanced: w_c = n / (C n_c). Given ones, 1 where a class is left out, are scaled.

    Args:
        weights: null, balanced, or {class: weight}.
        classes: C names.
        counts: training rows of each, >= 0; empty if they are not known, which counts as 1 each.

    Raises:
        PollinateError: a class isn't one of the task's.
    """
    if weights is None:
        return None
    if not counts and isinstance(weights, str):
        raise UsageError(
            "class_weights=balanced needs to know how many rows each class has, which a data "
            "module learns; give {class: weight} where labels come as tensors"
        )
    rows = torch.tensor(counts or [1] * len(classes), dtype=torch.float64).clamp(min=1)
    if isinstance(weights, str):
        return (rows.sum() / (len(rows) * rows)).float()
    named = {meant_word(name, classes): weight for name, weight in weights.items()}
    for name in named:
        if name not in classes:
            raise PollinateError(f"class_weights names {name!r}{hint(name, classes, 'classes')}")
    given = torch.tensor([named.get(name, 1.0) for name in classes], dtype=torch.float64)
    return (given * rows.sum() / (given * rows).sum()).float()


def focal_factor(log_probability: Tensor, gamma: float) -> Tensor:
    """Return the focal factor (1 - p)^gamma, given the right answer's log p."""
    return (-torch.expm1(log_probability)).clamp(min=1e-7) ** gamma

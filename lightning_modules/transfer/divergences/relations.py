"""How far a student's answers are from varying together with those of a teacher."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def uncorrelated(first: Tensor, second: Tensor) -> Tensor:
    """Return 1 - Pearson's correlation along the last dimension: (..., n) twice -> (...).

    It is in [0, 2], and 1 where one of them doesn't vary.
    """
    centred = [values - values.mean(dim=-1, keepdim=True) for values in (first, second)]
    return 1 - functional.cosine_similarity(centred[0], centred[1], dim=-1)


def between_classes(student: Tensor, teacher: Tensor) -> Tensor:
    """Return how far each row's probabilities are from being ranked alike: (N, C) twice -> (N,).

    Source: Huang, You, Wang, Qian & Xu 2022, section 4: the inter-class relation.
    """
    return uncorrelated(student, teacher)


def within_classes(student: Tensor, teacher: Tensor) -> Tensor:
    """Return how far each class' probabilities are from ranking the rows alike: (N, C) -> (C,).

    Source: as above: the intra-class relation.
    """
    return uncorrelated(student.T, teacher.T)

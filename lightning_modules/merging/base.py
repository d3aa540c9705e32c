"""The merging contract: a method, and what it makes of several models."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor

from lightning_modules.merging.evaluator import MergeEvaluator
from lightning_modules.merging.models import Models
from pollinate.recipes import Buildable


@dataclass
class MergeResult:
    """A model made of several.

    state: {name: tensor} of the network.
    coefficients: how it was made, as plain values: given, or chosen on validation data.
    """

    state: dict[str, Tensor]
    coefficients: dict[str, Any] = field(default_factory=dict)


class MergeMethod(metaclass=Buildable):
    """A way to make one model of several.

    Attributes:
        needs_base: whether it looks at what the models learnt since a common start.
        fewest: models that it takes at least.
        most: models that it takes at most; None: any number.

    The models have one shape, unless the method also is a ``CombinesNetworks``: then its result
    holds all of them.
    """

    needs_base: ClassVar[bool] = False
    fewest: ClassVar[int] = 1
    most: ClassVar[int | None] = None

    @abstractmethod
    def merge(self, models: Models, evaluator: MergeEvaluator) -> MergeResult:
        """Return the merged model.

        Args:
            models: their tensors.
            evaluator: runs networks on data, which are loaded when they are first asked for.
        """

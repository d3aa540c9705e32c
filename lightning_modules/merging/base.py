"""The merging contract: how several models become one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from lightning_modules.merging.models import Models

if TYPE_CHECKING:
    from lightning_modules.merging.bench import Bench


@dataclass
class Merged:
    """A model made of several.

    state: {name: tensor} of the network.
    coefficients: how it was made, as plain values: given, or chosen on validation data.
    """

    state: dict[str, Tensor]
    coefficients: dict[str, Any] = field(default_factory=dict)


class Merging(ABC):
    """A way to make one model of several.

    Attributes:
        needs_base: whether it looks at what the models learnt since a common start.
        fewest: models that it takes at least.
        most: models that it takes at most; None: any number.
        keeps_members: whether the result holds all models; then they need not have one shape.
    """

    needs_base: ClassVar[bool] = False
    fewest: ClassVar[int] = 1
    most: ClassVar[int | None] = None
    keeps_members: ClassVar[bool] = False

    @abstractmethod
    def merge(self, models: Models, bench: Bench) -> Merged:
        """Return the merged model.

        Args:
            models: their tensors.
            bench: runs networks on data, which are loaded when they are first asked for.
        """

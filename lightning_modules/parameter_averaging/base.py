"""The averaging contract: how the weights of processes that step on their own are combined."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from pollinate.errors import UsageError
from pollinate.recipes import Buildable


class ParameterAveraging(metaclass=Buildable):
    """Between two synchronisations each process takes optimizer steps on its own rows.

    Args:
        every_n_steps: optimizer steps between two synchronisations, >= 1.

    Examples:
        >>> import torch, pollinate as po
        >>> class Half(po.averaging.ParameterAveraging):
        ...     def step(self, start, mean):
        ...         return {name: (start[name] + mean[name]) / 2 for name in start}
        >>> start, mean = {"w": torch.tensor([1.0])}, {"w": torch.tensor([0.5])}
        >>> Half(every_n_steps=8).step(start, mean)
        {'w': tensor([0.7500])}
    """

    def __init__(self, every_n_steps: int = 16) -> None:
        if every_n_steps < 1:
            raise UsageError(
                f"every_n_steps must be >= 1, got {every_n_steps}; 1 averages after every step"
            )
        self.every_n_steps = every_n_steps

    copies: ClassVar[int] = 1  # of the parameters, in memory: those of the start

    @abstractmethod
    def step(self, start: Mapping[str, Tensor], mean: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the parameters with which all processes go on.

        Args:
            start: those of the synchronisation before, in the order of names.
            mean: the processes' mean.
        """

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs; all processes have the same."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # most have none
        """Restore what ``state_dict`` returned."""

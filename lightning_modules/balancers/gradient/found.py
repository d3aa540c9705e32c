"""What tasks share, found in the graphs of their losses."""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakValueDictionary

from torch import Tensor

from lightning_modules.balancers.gradient.leaves import reached_by_several


class FoundParameters:
    """Remembers what several losses reached, in the order in which it was found first.

    So a vector over them means the same at each step, whatever the order of the losses, and what is
    shared stays so in a step that lacks tasks. Inputs that want gradients go with their step.
    """

    def __init__(self) -> None:
        self._known: WeakValueDictionary[int, Tensor] = WeakValueDictionary()

    def __reduce__(self) -> tuple[type[FoundParameters], tuple[()]]:
        """A copy knows nothing: its network has other parameters."""
        return FoundParameters, ()

    def of(self, losses: Sequence[Tensor]) -> list[Tensor]:
        """Return what losses of this step or an earlier one share; a first one alone: all."""
        if len(losses) > 1:
            for leaf in reached_by_several(losses):
                self._known.setdefault(id(leaf), leaf)
        return list(self._known.values()) or reached_by_several(losses)

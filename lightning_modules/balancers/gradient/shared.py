"""What tasks share, and how each task's gradient of it is found."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from torch import Tensor


class Shared(ABC):
    """Where the tasks' gradients meet: they are measured, combined and sent on here.

    The rows that ``differentiate`` gathers add up over calls until ``apply`` takes them.
    """

    immediate: bool  # whether each call of ``differentiate`` needs its own ``apply``

    @abstractmethod
    def differentiate(self, losses: Mapping[str, Tensor], slopes: Mapping[str, Tensor]) -> None:
        """Add c_t dL_t / d(shared) to row t, and c_t dL_t to ``.grad`` of what t has alone.

        Args:
            losses: {task: scalar L_t}.
            slopes: {task: scalar c_t}.
        """

    @abstractmethod
    def gramian(self, tasks: Sequence[str]) -> Tensor:
        """Return J J^T over all processes: (T, T), float64, on the CPU."""

    @abstractmethod
    def jacobian(self, tasks: Sequence[str]) -> Tensor:
        """Return the rows of all processes together: (T, P)."""

    @abstractmethod
    def apply(self, tasks: Sequence[str], weights: Tensor) -> None:
        """Send sum_t w_t row_t to ``.grad``, and forget the rows; weights: (T,)."""

    @abstractmethod
    def apply_vector(self, vector: Tensor) -> None:
        """Send a vector (P,) in place of the rows to ``.grad``, and forget the rows."""

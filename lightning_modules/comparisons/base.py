"""The comparison contract: how a task's outputs are compared with those of another model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from torch import Tensor

# logits of student and teacher, (..., C) each -> how far they are apart, (...)
Divergence = Callable[[Tensor, Tensor], Tensor]


class Comparison(ABC):
    """Reads outputs (N, ...) of one task.

    Attributes:
        exclusive: whether outputs are logits of classes of which one is right.
        ordered: whether the classes' order is part of what the outputs mean.
    """

    exclusive: bool = False
    ordered: bool = False

    @abstractmethod
    def apart(self, student: Tensor, teacher: Tensor, divergence: Divergence) -> Tensor:
        """Return how far a student's outputs are from a teacher's: (N,)."""

    @abstractmethod
    def mean(self, outputs: Tensor, shares: Tensor, temperature: float) -> Tensor:
        """Return the outputs that stand for the mean of several teachers' answers: (N, ...).

        Args:
            outputs: (K, N, ...) of K teachers.
            shares: (K, N) that sum to 1 over the teachers.
            temperature: at which probabilities are averaged, > 0.
        """

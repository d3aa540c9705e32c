"""What a task's outputs mean (classes, yes or no, numbers, words), for comparing two models."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from lightning_modules.divergences import mean_logits

# logits of student and teacher, (..., C) each -> how far they are apart, (...)
Divergence = Callable[[Tensor, Tensor], Tensor]


class OutputSpace(ABC):
    """Reads outputs (N, ...) of one task.

    Attributes:
        exclusive: whether outputs are logits of classes of which one is right.
        ordered: whether the classes' order is part of what the outputs mean.
    """

    exclusive: bool = False
    ordered: bool = False

    def comparable(self, outputs: Tensor) -> Tensor:
        """Return the part of outputs (N, ...) that another model's are compared with."""
        return outputs

    @abstractmethod
    def divergence(
        self, student: Tensor, teacher: Tensor, target: Tensor, divergence: Divergence
    ) -> Tensor:
        """Return how far a student's outputs are from a teacher's: (N,).

        Args:
            student, teacher: (N, ...) outputs.
            target: (N, ...) what the rows' targets are, placeholders where there is none.
            divergence: of logits.
        """

    @abstractmethod
    def mean(self, outputs: Tensor, shares: Tensor, temperature: float) -> Tensor:
        """Return the outputs that stand for the mean of several teachers' answers: (N, ...).

        Args:
            outputs: (K, N, ...) of K teachers.
            shares: (K, N) that sum to 1 over the teachers.
            temperature: at which probabilities are averaged, > 0.
        """


class CategoricalOutput(OutputSpace):
    """Outputs are logits (N, C) of classes of which one is right."""

    exclusive = True

    def divergence(
        self, student: Tensor, teacher: Tensor, target: Tensor, divergence: Divergence
    ) -> Tensor:
        return divergence(student, teacher)

    def mean(self, outputs: Tensor, shares: Tensor, temperature: float) -> Tensor:
        """Return the logits of the mean probabilities: (N, C)."""
        return mean_logits(outputs, shares, temperature)


class BinaryOutputs(OutputSpace):
    """Outputs are a logit a question, (N, Q): s(z) = softmax(0, z), a choice of two.

    Args:
        ordered: whether the questions' order is part of what they mean.
    """

    def __init__(self, ordered: bool = False) -> None:
        self.ordered = ordered

    def divergence(
        self, student: Tensor, teacher: Tensor, target: Tensor, divergence: Divergence
    ) -> Tensor:
        """Return the mean divergence over the questions: (N,)."""
        return divergence(binary_logits(student), binary_logits(teacher)).mean(dim=1)

    def mean(self, outputs: Tensor, shares: Tensor, temperature: float) -> Tensor:
        """Return the logits of the mean probabilities: (N, Q)."""
        every = shares[..., None].expand(outputs.shape)
        found = mean_logits(binary_logits(outputs), every, temperature)
        return found[..., 1] - found[..., 0]


def binary_logits(logits: Tensor) -> Tensor:
    """Return logits of no and yes: (...) -> (..., 2)."""
    return torch.stack([torch.zeros_like(logits), logits], dim=-1)


class NumericOutput(OutputSpace):
    """Outputs are numbers (N,): ((z - z_teacher) / s)^2 / 2, as the loss of a label.

    Args:
        scale: s, > 0: the target's standard deviation, in its own unit.
        number: outputs (N, ...) -> the numbers z, (N,), where they say more; None: they don't.
    """

    def __init__(self, scale: float, number: Callable[[Tensor], Tensor] | None = None) -> None:
        self.scale = scale
        self.number = number or (lambda output: output)

    def divergence(
        self, student: Tensor, teacher: Tensor, target: Tensor, divergence: Divergence
    ) -> Tensor:
        """Return half the squared difference in standard deviations: (N,)."""
        own, other = self.number(student), self.number(teacher)
        precise = own.to(torch.promote_types(own.dtype, torch.float32))
        return ((precise - other) / self.scale).square() / 2

    def mean(self, outputs: Tensor, shares: Tensor, temperature: float) -> Tensor:
        every = shares.view(*shares.shape, *(1,) * (outputs.dim() - shares.dim()))
        return (outputs * every).sum(dim=0)


class AnswerOutput(OutputSpace):
    """Outputs are logits (N, A, V) of an answer's tokens, each of which one is right.

    Args:
        tokens: ids that stand for a token; a model's logits beyond them are left out.
    """

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens

    def comparable(self, outputs: Tensor) -> Tensor:
        return outputs[..., : self.tokens]

    def divergence(
        self, student: Tensor, teacher: Tensor, target: Tensor, divergence: Divergence
    ) -> Tensor:
        """Return the mean divergence over each answer's own tokens, its end included: (N,)."""
        real = target[:, : student.shape[1]] >= 0
        apart = divergence(student[real], teacher[real])
        sums = apart.new_zeros(len(student)).index_add(0, real.nonzero()[:, 0], apart)
        return sums / real.sum(dim=1).clamp(min=1)

    def mean(self, outputs: Tensor, shares: Tensor, temperature: float) -> Tensor:
        """Return the logits of the mean probabilities: (N, A, V)."""
        every = shares[..., None].expand(outputs.shape[:-1])
        return mean_logits(outputs, every, temperature)

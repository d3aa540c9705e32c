"""The task contract: head, loss, metrics and labels of one thing to predict."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor, nn
from torchmetrics import MetricCollection

Label = dict[str, Any]


class Task(ABC):
    """One thing to predict.

    Attributes:
        score: the metric, larger is better, by which runs are compared.
        classes: names of the classes, in the order of the outputs; empty if there are none.
    """

    score: str
    classes: list[str]

    @abstractmethod
    def learn(self, values: Iterable[Any]) -> None:
        """Learn the vocabulary or the scale from the training split's targets."""

    @abstractmethod
    def encode(self, values: Iterable[Any]) -> tuple[Tensor, Tensor]:
        """Turn raw targets into tensors.

        Returns:
            targets (N, ...), with a placeholder where there is no label, and present (N,) bool.

        Raises:
            UnseenLabelError: a label that the training split doesn't have.
        """

    @abstractmethod
    def head(self, dim: int) -> nn.Module:
        """Return the output layer: (N, dim) -> (N, ...)."""

    @abstractmethod
    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the unreduced loss: (N,)."""

    @abstractmethod
    def metrics(self) -> MetricCollection:
        """Return fresh metrics that take (output, target)."""

    @abstractmethod
    def decode(self, output: Tensor) -> list[Label]:
        """Turn outputs (N, ...) into one answer for people a row."""

    @abstractmethod
    def baseline(self, train: Tensor, target: Tensor) -> dict[str, float]:
        """Score on ``target`` of always giving the best constant answer, chosen on ``train``."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """What ``learn`` learnt, as plain values."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what ``learn`` learnt in another run."""


class UnseenLabelError(ValueError):
    """Labels that the training split doesn't have; ``labels`` lists them."""

    def __init__(self, labels: Sequence[str]) -> None:
        super().__init__(f"labels not in the training split: {', '.join(labels)}")
        self.labels = list(labels)

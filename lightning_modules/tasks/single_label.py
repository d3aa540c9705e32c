"""What tasks have in common in which a row has one of several classes."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.nn import functional

from datamodules.labelled_task import Target
from lightning_modules.tasks.base import Label, Task, class_names, label_text
from pollinate.errors import PollinateError


class SingleLabelTask(Task):
    """A row has one of several classes.

    Args:
        dataset, target, unseen, unlabelled: as for ``Task``.
        classes: names, or n for "0" ... "n - 1"; None: the labels of the training split.

    Examples:
        >>> import pollinate as po
        >>> task = po.tasks.Classification("reviews", target="mood")
        >>> isinstance(task, po.tasks.SingleLabelTask)
        True
        >>> task.learn(["sad", "happy", "sad"])  # a data module does this with the training rows
        >>> task.classes, task.counts
        (['happy', 'sad'], [1, 2])
    """

    def __init__(
        self,
        dataset: str | Sequence[str] | None,
        target: Target | Mapping[str, Target] | None,
        classes: int | Sequence[Any] | None,
        unseen: str,
        unlabelled: str | Sequence[str],
    ) -> None:
        super().__init__(dataset, target, unseen=unseen, unlabelled=unlabelled)
        self.given = class_names(classes)
        self.classes: list[str] = list(self.given or ())
        self.counts: list[int] = []  # training rows of each class

    @abstractmethod
    def in_order(self, labels: Iterable[str]) -> list[str]:
        """Return the distinct labels of the training split in the order of the classes."""

    def learn(self, values: Iterable[Any]) -> None:
        """Count the classes, those of the training split unless they were given.

        Raises:
            PollinateError: fewer than two classes.
        """
        counts = Counter(text for value in values if (text := label_text(value)) is not None)
        self.classes = self.in_order(counts) if self.given is None else list(self.given)
        self.counts = [counts[name] for name in self.classes]
        if len(counts) < 2:
            raise PollinateError(
                f"classes must be >= 2 in the training split, got {len(counts)} "
                f"({', '.join(counts) or 'no labels at all'}); check target and split"
            )

    def answers(self, chosen: Sequence[int], probabilities: Sequence[list[float]]) -> list[Label]:
        """Return each row's class, its probability, and those of all classes.

        Args:
            chosen: (N,) class numbers.
            probabilities: (N, C).
        """
        return [
            {
                "label": self.classes[number],
                "probability": row[number],
                "probabilities": dict(zip(self.classes, row, strict=True)),
            }
            for number, row in zip(chosen, probabilities, strict=True)
        ]

    def confidence(self, output: Tensor, calibrated: Tensor) -> Tensor:
        """Return the probability of the answer: (N,)."""
        probabilities = self.class_probabilities(calibrated)
        assert probabilities is not None
        return probabilities.gather(1, self.chosen(output)[:, None]).squeeze(1)

    @abstractmethod
    def chosen(self, output: Tensor) -> Tensor:
        """Return the classes that are answered: (N,) int64."""

    def mistakes(self, output: Tensor, target: Tensor) -> Tensor:
        """Return 1 where the answer is wrong: (N,)."""
        return (self.chosen(output) != target).float()

    def label_columns(self, target: Tensor) -> Tensor:
        """Return a column per class: (N, C)."""
        return functional.one_hot(target, len(self.classes)).double()

    def class_numbers(self, target: Tensor) -> Tensor:
        return target

    def state_dict(self) -> dict[str, Any]:
        return {"classes": list(self.classes), "counts": list(self.counts)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.classes, self.counts = list(state["classes"]), list(state["counts"])

"""The contract of scores that guess, before any transfer, how much a source will help."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar, TypeVar

import torch
from torch import Tensor

from pollinate.recipes import Buildable

T = TypeVar("T")


@dataclass(frozen=True)
class Absent:
    """What a source or task hasn't got, and why, for people."""

    reason: str


class UnavailableError(Exception):
    """A score can't be had for a source and task; the message says why."""


NOT_ASKED = Absent("it was not asked for")


@dataclass
class Evidence:
    """What is known of one source for one task of the target.

    Of N labelled rows of the target, in float64:

    features: (N, D), what the source makes of the rows.
    probabilities: (N, S), what one of the source's own heads says of its S classes.
    labels: (N, K), a column per class or number that is to be predicted.
    classes: (N,) int64, of tasks with one class per row.
    reference: (N, R), what the features are compared with.

    Of the source itself:

    parameters: weights that would be taken over.
    rows: labelled training rows it has seen.

    Of a run that trained source and target as tasks, looked at S times:

    affinity: (S,), ``lookahead_affinity`` of the source for the target.
    cosine: (S,), of the two gradients of the shared weights.

    Examples:
        >>> import torch, pollinate as po
        >>> evidence = po.Evidence(rows=5000)
        >>> po.scores.RowCount().score(evidence)
        5000.0
        >>> evidence.features.reason
        'it was not asked for'
    """

    features: Tensor | Absent = NOT_ASKED
    probabilities: Tensor | Absent = NOT_ASKED
    labels: Tensor | Absent = NOT_ASKED
    classes: Tensor | Absent = NOT_ASKED
    reference: Tensor | Absent = NOT_ASKED
    parameters: int | Absent = NOT_ASKED
    rows: int | Absent = NOT_ASKED
    affinity: Tensor | Absent = NOT_ASKED
    cosine: Tensor | Absent = NOT_ASKED


class EvidenceKind(Enum):
    """What of the evidence a score looks at."""

    SIZE = "the source's size: it knows nothing of the target, so that a score must do better"
    FEATURES = "what the source makes of the target's rows"
    HEADS = "what the source's heads say of the target's rows"
    RUN = "a run that trained source and target as tasks"


class Score(metaclass=Buildable):
    """Guesses how much a source helps a task; larger is better.

    Attributes:
        title: for people.
        reads: what of the evidence.

    Examples:
        >>> import torch, pollinate as po
        >>> class Spread(po.scores.Score):
        ...     title = "spread"
        ...     def score(self, evidence):
        ...         return evidence.features.std(dim=0).mean().item()
        >>> Spread().score(po.Evidence(features=torch.tensor([[1.0, 0.0], [3.0, 0.0]]))) > 0.5
        True
    """

    title: str
    reads: ClassVar[EvidenceKind] = EvidenceKind.FEATURES

    @abstractmethod
    def score(self, evidence: Evidence) -> float:
        """Return the score.

        Raises:
            UnavailableError: the evidence lacks something, or is too little.
        """


def require_evidence(value: T | Absent) -> T:
    """Return a value that is there."""
    if isinstance(value, Absent):
        raise UnavailableError(value.reason)
    return value


def require_rows(count: int, least: int, what: str) -> None:
    """Check that there are enough rows."""
    if count < least:
        raise UnavailableError(f"{what} needs >= {least} labelled rows, got {count}")


def center(rows: Tensor) -> Tensor:
    """Return rows (N, D) minus their mean, in float64."""
    exact = rows.double()
    return exact - exact.mean(dim=0)


def class_means(features: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """Return each class's mean (C, D) and number of rows (C,), of the classes that have any."""
    counts = torch.bincount(classes).to(features)
    sums = torch.zeros(len(counts), features.shape[1], dtype=features.dtype)
    sums.index_add_(0, classes, features)
    there = counts > 0
    return sums[there] / counts[there, None], counts[there]

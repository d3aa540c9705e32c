"""Entities in rows of tags, and how many of them are found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torchmetrics import Metric

OUTSIDE = "O"
Span = tuple[str, int, int]  # type, first word, word behind the last


def spans(tags: Sequence[str]) -> Iterator[Span]:
    """Yield the entities of a row's tags.

    B-x begins one of type x, I-x goes on; I-x behind another type begins one, too, as in
    CoNLL-2000's evaluation. Tags without a prefix are plain types: equal neighbours are one entity.
    """
    kind, start = "", 0
    for place, tag in enumerate([*tags, OUTSIDE]):
        prefix, _, name = tag.partition("-") if tag[:2] in ("B-", "I-") else ("I", "", tag)
        own = "" if tag == OUTSIDE else name
        if kind and (own != kind or prefix == "B"):
            yield kind, start, place
        if own and (own != kind or prefix == "B"):
            start = place
        kind = own


class SpanF1(Metric):
    """F1 = 2 tp / (2 tp + fp + fn) over entities; type and both ends must be right.

    Source: Tjong Kim Sang & Buchholz 2000, "Introduction to the CoNLL-2000 shared task".

    Args:
        tags: names of the tag numbers.
    """

    full_state_update = False

    def __init__(self, tags: Sequence[str]) -> None:
        super().__init__()
        self.tags = list(tags)
        for name in ("hits", "answered", "wanted"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.hits: Tensor
        self.answered: Tensor
        self.wanted: Tensor

    def update(self, answers: Tensor, target: Tensor) -> None:
        """Add rows of tag numbers (N, W); -1 in the target is no word."""
        for answer, wanted in zip(answers.tolist(), target.tolist(), strict=True):
            words = [place for place, number in enumerate(wanted) if number >= 0]
            found = set(spans([self.tags[answer[place]] for place in words]))
            right = set(spans([self.tags[wanted[place]] for place in words]))
            self.hits += len(found & right)
            self.answered += len(found)
            self.wanted += len(right)

    def compute(self) -> Tensor:
        """Return F1, 0 if nothing was answered and nothing wanted."""
        return 2 * self.hits / (self.answered + self.wanted).clamp(min=1)


class WordAccuracy(Metric):
    """Share of words whose tag is right."""

    full_state_update = False

    def __init__(self) -> None:
        super().__init__()
        for name in ("hits", "words"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.hits: Tensor
        self.words: Tensor

    def update(self, answers: Tensor, target: Tensor) -> None:
        """Add rows of tag numbers (N, W); -1 in the target is no word."""
        self.hits += ((answers == target) & (target >= 0)).sum()
        self.words += (target >= 0).sum()

    def compute(self) -> Tensor:
        """Return the share."""
        return self.hits / self.words.clamp(min=1)

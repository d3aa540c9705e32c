"""A tag for each word."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Categorical
from torch.nn import functional
from torchmetrics import MetricCollection

from datamodules.columns import Column, Columns
from datamodules.modalities.text import as_text, first_text, words_of
from lightning_modules.tasks.base import Encoded, Label, Task
from lightning_modules.tasks.opinions import mean_softmax
from lightning_modules.tasks.spans import OUTSIDE, SpanF1, WordAccuracy
from lightning_modules.views.words import TEXT, WordView
from pipeline.errors import PollinateError, UsageError

NO_WORD = -1


class Tagging(Task):
    """Softmax cross-entropy over the tags: L = mean over a row's words of -log softmax(z)_y.

    A target is a list of tags or a text with one tag a word, parted by white space. Words beyond
    the tokens that are kept count as answered ``O``.

    Args:
        label_smoothing: a of ``Classification``, in [0, 1).
    """

    score = "f1"

    def __init__(self, label_smoothing: float = 0.0) -> None:
        if not 0 <= label_smoothing < 1:
            raise UsageError(f"label_smoothing must be in [0, 1), got {label_smoothing}")
        self.label_smoothing = label_smoothing
        self.view = WordView()
        self.classes: list[str] = []
        self.counts: list[int] = []

    def problems(self, values: Column, inputs: Columns) -> dict[int, str]:
        """Return rows whose number of tags isn't that of their words."""
        if TEXT not in inputs:
            raise PollinateError(
                "tags are for words, but the data set has no text among its inputs"
            )
        found = {}
        for row, (cell, text) in enumerate(zip(values, inputs[TEXT], strict=True)):
            tags, words = tags_of(cell), words_of(first_text(text))
            if tags is not None and len(tags) != len(words):
                found[row] = (
                    f"must have one tag a word, got {len(tags)} tags for {len(words)} words; words "
                    "are parted by white space"
                )
        return found

    def learn(self, values: Iterable[Any]) -> None:
        """Take the distinct tags, ``O`` first.

        Raises:
            PollinateError: fewer than two tags.
        """
        counts = Counter(tag for cell in values for tag in tags_of(cell) or ())
        self.classes = sorted(counts, key=lambda tag: (tag != OUTSIDE, tag))
        self.counts = [counts[tag] for tag in self.classes]
        if len(self.classes) < 2:
            raise PollinateError(
                f"tags must be >= 2 in the training split, got {len(self.classes)} "
                f"({', '.join(self.classes) or 'none at all'}); check target and split"
            )

    def encode(self, values: Iterable[Any]) -> Encoded:
        """Return tag numbers, -1 where there is no word: (N, W) int64, W of the longest row."""
        numbers = {tag: number for number, tag in enumerate(self.classes)}
        rows = [tags_of(cell) for cell in values]
        unseen = {
            row: next(tag for tag in tags if tag not in numbers)
            for row, tags in enumerate(rows)
            if tags is not None and any(tag not in numbers for tag in tags)
        }
        widest = max((len(tags) for tags in rows if tags is not None), default=0)
        targets = np.full((len(rows), widest), NO_WORD, dtype=np.int64)
        for row, tags in enumerate(rows):
            if tags is not None and row not in unseen:
                targets[row, : len(tags)] = [numbers[tag] for tag in tags]
        present = [bool(tags) and row not in unseen for row, tags in enumerate(rows)]
        return Encoded(torch.from_numpy(targets), torch.tensor(present, dtype=torch.bool), unseen)

    def head(self, dim: int) -> nn.Module:
        """Return a linear layer to one logit a tag."""
        return nn.Linear(dim, len(self.classes))

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return each row's mean over its words, of logits (N, W', C) and tags (N, W): (N,)."""
        logits = output.to(torch.promote_types(output.dtype, torch.float32))
        wanted = fitted(target, logits.shape[1])
        losses = functional.cross_entropy(
            logits.mT,
            wanted,
            reduction="none",
            ignore_index=NO_WORD,
            label_smoothing=self.label_smoothing,
        )
        return losses.sum(dim=1) / (wanted >= 0).sum(dim=1).clamp(min=1)

    def measured(self, output: Tensor) -> Tensor:
        """Return the answered tag numbers: (N, W') int64."""
        return output.argmax(dim=-1)

    def metrics(self) -> MetricCollection:
        """Return F1 over entities, and the share of words whose tag is right."""
        return MetricCollection(
            {"f1": Fitted(self.classes), "accuracy": FittedAccuracy()}, compute_groups=False
        )

    def decode(self, output: Tensor) -> list[Label]:
        """Return the tags of a row's words, parted by spaces."""
        answers = self.measured(output)
        real = output.ne(0).any(dim=-1).cumsum(dim=1)
        lengths = torch.where(real[:, -1] > 0, real.argmax(dim=1) + 1, 0).tolist()
        return [
            {"label": " ".join(self.classes[number] for number in row[:length])}
            for row, length in zip(answers.tolist(), lengths, strict=True)
        ]

    def averaged(self, outputs: Tensor) -> Tensor:
        """Return the logits of the mean probabilities of each word."""
        return mean_softmax(outputs)

    def belief(self, output: Tensor) -> Categorical:
        """Return the softmax of logits (N, W', C), word by word."""
        return Categorical(logits=output.float(), validate_args=False)

    def cells(self, answer: Label | None) -> dict[str, Any]:
        """Return the tags."""
        return {"": (answer or {}).get("label")}

    def cell_types(self) -> dict[str, type]:
        """Return a text."""
        return {"": str}

    def baseline(self, target: Tensor) -> dict[str, float]:
        """Score of always answering the training split's most frequent tag."""
        if not len(target):
            return {}
        metrics = self.metrics()
        metrics.update(torch.full_like(target, self.counts.index(max(self.counts))), target)
        return {name: value.item() for name, value in metrics.compute().items()}

    def state_dict(self) -> dict[str, Any]:
        """Return the tags and their numbers of training words."""
        return {"classes": list(self.classes), "counts": list(self.counts)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the tags."""
        self.classes, self.counts = list(state["classes"]), list(state["counts"])


class Fitted(SpanF1):
    """``SpanF1`` of answers whose width isn't the target's."""

    def update(self, answers: Tensor, target: Tensor) -> None:
        """Add rows of tag numbers: (N, W') and (N, W)."""
        super().update(answers, fitted(target, answers.shape[1]))


class FittedAccuracy(WordAccuracy):
    """``WordAccuracy`` of answers whose width isn't the target's."""

    def update(self, answers: Tensor, target: Tensor) -> None:
        """Add rows of tag numbers: (N, W') and (N, W)."""
        super().update(answers, fitted(target, answers.shape[1]))


def tags_of(cell: Any) -> list[str] | None:
    """Return a cell's tags, None for an empty cell."""
    if cell is None or (isinstance(cell, float) and cell != cell):
        return None
    tags = [str(tag) for tag in cell] if isinstance(cell, list) else as_text(cell).split()
    return tags or None


def fitted(target: Tensor, width: int) -> Tensor:
    """Cut or pad tags (N, W) to (N, width): a batch is as wide as its longest row."""
    return functional.pad(target, (0, width - target.shape[1]), value=NO_WORD)

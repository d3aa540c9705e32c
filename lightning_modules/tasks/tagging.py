"""A tag for each word."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Categorical
from torch.nn import functional
from torchmetrics import Metric, MetricCollection

from datamodules.labelled_task import EncodedTargets, Target
from datamodules.modalities.text import as_text, first_text, words_of
from datamodules.table import Column, Columns
from lightning_modules.tasks.base import (
    Label,
    TargetForm,
    Task,
    class_names,
    class_problem,
    mean_softmax,
    require_classes,
)
from lightning_modules.views import TEXT, WordView
from pollinate.errors import PollinateError, UsageError

OUTSIDE = "O"
Span = tuple[str, int, int]  # type, first word, word behind the last


def entity_spans(tags: Sequence[str]) -> Iterator[Span]:
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
    higher_is_better = True

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
            found = set(entity_spans([self.tags[answer[place]] for place in words]))
            right = set(entity_spans([self.tags[wanted[place]] for place in words]))
            self.hits += len(found & right)
            self.answered += len(found)
            self.wanted += len(right)

    def compute(self) -> Tensor:
        """Return F1, 0 if nothing was answered and nothing wanted."""
        return 2 * self.hits / (self.answered + self.wanted).clamp(min=1)


class WordAccuracy(Metric):
    """Share of words whose tag is right."""

    full_state_update = False
    higher_is_better = True

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
        return self.hits / self.words.clamp(min=1)


NO_WORD = -1


class Tagging(Task):
    """Softmax cross-entropy over the tags: L = mean over a row's words of -log softmax(z)_y.

    A target is a list of tags or a text with one tag per word, separated by white space. Words
    beyond the tokens that are kept count as answered ``O``.

    Args:
        dataset, target, unseen, unlabelled: as for ``Task``.
        classes: names of the tags; None: those of the training split, ``O`` first.
        label_smoothing: a of ``Classification``, in [0, 1).

    Examples:
        >>> import torch, pollinate as po
        >>> task = po.tasks.Tagging("notes", target="tags", classes=["O", "B-place"])
        >>> logits = torch.tensor([[[0.0, 3.0], [3.0, 0.0]]])  # a row of two words
        >>> task.decode(logits)
        [{'label': 'B-place O'}]
        >>> task.loss(logits, torch.tensor([[1, -1]]))  # the second isn't labelled
        tensor([0.0486])
    """

    score = "f1"

    def __init__(
        self,
        dataset: str | Sequence[str] | None = None,
        target: Target | Mapping[str, Target] | None = None,
        *,
        classes: int | Sequence[Any] | None = None,
        label_smoothing: float = 0.0,
        unseen: str = "refuse",
        unlabelled: str | Sequence[str] = (),
    ) -> None:
        super().__init__(dataset, target, unseen=unseen, unlabelled=unlabelled)
        if not 0 <= label_smoothing < 1:
            raise UsageError(f"label_smoothing must be in [0, 1), got {label_smoothing}")
        self.label_smoothing = label_smoothing
        self.view = WordView()
        self.given = class_names(classes)
        self.classes: list[str] = list(self.given or ())
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
                    f"must have one tag per word, got {len(tags)} tags for {len(words)} words; "
                    "words are separated by white space"
                )
                continue
            wrong = (class_problem(tag, self.given) for tag in tags or ())
            if problem := next(filter(None, wrong), ""):
                found[row] = problem
        return found

    def learn(self, values: Iterable[Any]) -> None:
        """Count the tags; take the distinct ones, ``O`` first, unless they were given.

        Raises:
            PollinateError: fewer than two tags.
        """
        counts = Counter(tag for cell in values for tag in tags_of(cell) or ())
        distinct = sorted(counts, key=lambda tag: (tag != OUTSIDE, tag))
        self.classes = distinct if self.given is None else list(self.given)
        self.counts = [counts[tag] for tag in self.classes]
        if len(distinct) < 2:
            raise PollinateError(
                f"tags must be >= 2 in the training split, got {len(distinct)} "
                f"({', '.join(distinct) or 'none at all'}); check target and split"
            )

    def encode(self, values: Iterable[Any]) -> EncodedTargets:
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
        return EncodedTargets(
            torch.from_numpy(targets), torch.tensor(present, dtype=torch.bool), unseen
        )

    def target_form(self) -> TargetForm:
        return TargetForm(
            "tag numbers (N, W), -1 beyond the last word", True, (None,), len(self.classes)
        )

    def head(self, dim: int) -> nn.Module:
        """Return a linear layer to one logit a tag."""
        return nn.Linear(dim, require_classes(self.classes))

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return each row's mean over its words, of logits (N, W', C) and tags (N, W): (N,)."""
        logits = output.to(torch.promote_types(output.dtype, torch.float32))
        wanted = padded_tags(target, logits.shape[1])
        losses = functional.cross_entropy(
            logits.mT,
            wanted,
            reduction="none",
            ignore_index=NO_WORD,
            label_smoothing=self.label_smoothing,
        )
        return losses.sum(dim=1) / (wanted >= 0).sum(dim=1).clamp(min=1)

    def metric_input(self, output: Tensor) -> Tensor:
        """Return the predicted tag numbers: (N, W') int64."""
        return output.argmax(dim=-1)

    def metrics(self) -> MetricCollection:
        """Return F1 over entities, and the share of words whose tag is right."""
        return MetricCollection(
            {"f1": PaddedSpanF1(self.classes), "accuracy": PaddedWordAccuracy()},
            compute_groups=False,
        )

    def decode(self, output: Tensor) -> list[Label]:
        """Return the tags of a row's words, parted by spaces."""
        answers = self.metric_input(output)
        # a batch of rows without words has no columns, hence the one before the first
        real = functional.pad(output.ne(0).any(dim=-1), (1, 0))
        lengths = (real * torch.arange(real.shape[1], device=real.device)).amax(dim=1).tolist()
        return [
            {"label": " ".join(self.classes[number] for number in row[:length])}
            for row, length in zip(answers.tolist(), lengths, strict=True)
        ]

    def ensemble_output(self, outputs: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return the logits of the mean probabilities of each word."""
        return mean_softmax(outputs, weights)

    def predictive_distribution(self, output: Tensor) -> Categorical:
        """Return the softmax of logits (N, W', C), word by word."""
        return Categorical(logits=output.float(), validate_args=False)

    def cells(self, answer: Label | None) -> dict[str, Any]:
        return {"": (answer or {}).get("label")}

    def cell_types(self) -> dict[str, type]:
        return {"": str}

    def baseline(self, target: Tensor) -> dict[str, float]:
        """Score of always predicting the training split's most frequent tag."""
        if not len(target):
            return {}
        metrics = self.metrics()
        common = self.counts.index(max(self.counts)) if self.counts else 0
        metrics.update(torch.full_like(target, common), target)
        return {name: value.item() for name, value in metrics.compute().items()}

    def state_dict(self) -> dict[str, Any]:
        return {"classes": list(self.classes), "counts": list(self.counts)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.classes, self.counts = list(state["classes"]), list(state["counts"])


class PaddedSpanF1(SpanF1):
    """``SpanF1`` of answers whose width isn't the target's."""

    def update(self, answers: Tensor, target: Tensor) -> None:
        """Add rows of tag numbers: (N, W') and (N, W)."""
        super().update(answers, padded_tags(target, answers.shape[1]))


class PaddedWordAccuracy(WordAccuracy):
    """``WordAccuracy`` of answers whose width isn't the target's."""

    def update(self, answers: Tensor, target: Tensor) -> None:
        """Add rows of tag numbers: (N, W') and (N, W)."""
        super().update(answers, padded_tags(target, answers.shape[1]))


def tags_of(cell: Any) -> list[str] | None:
    """Return a cell's tags, None for an empty cell."""
    if cell is None or (isinstance(cell, float) and cell != cell):
        return None
    several = isinstance(cell, list | tuple | np.ndarray)
    tags = [str(tag) for tag in cell] if several else as_text(cell).split()
    return tags or None


def padded_tags(target: Tensor, width: int) -> Tensor:
    """Cut or pad tags (N, W) to (N, width): a batch is as wide as its longest row."""
    return functional.pad(target, (0, width - target.shape[1]), value=NO_WORD)

"""A tag for each word."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Categorical
from torch.nn import functional
from torchmetrics import Metric, MetricCollection

from datamodules.labelled_task import EncodedTargets, Target
from datamodules.modalities.text import first_text, words_of
from datamodules.table import Column, Columns, as_text
from lightning_modules.calibration.base import Calibrator
from lightning_modules.calibration.temperature import Temperature
from lightning_modules.tasks.answer_scores import TagScores
from lightning_modules.tasks.base import (
    Label,
    TargetForm,
    Task,
    class_names,
    class_problem,
    mean_softmax,
    require_classes,
    weighted_mean,
)
from lightning_modules.tasks.linear_chain import (
    MORE,
    best_tags,
    log_marginals,
    log_partition,
    mean_score,
)
from lightning_modules.views import FAINT, TEXT, ChainView, WordView, with_transitions
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
        hits = answered = all_wanted = 0  # a sum of tensors for each row would take longer
        for answer, wanted in zip(answers.tolist(), target.tolist(), strict=True):
            words = [place for place, number in enumerate(wanted) if number >= 0]
            found = set(entity_spans([self.tags[answer[place]] for place in words]))
            right = set(entity_spans([self.tags[wanted[place]] for place in words]))
            hits += len(found & right)
            answered += len(found)
            all_wanted += len(right)
        self.hits += hits
        self.answered += answered
        self.wanted += all_wanted

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


class TagModel(ABC):
    """How the tags of a row's words depend on each other.

    Attributes:
        view: puts what the head makes of words together, row by row.
    """

    view: WordView

    @abstractmethod
    def head(self, dim: int, tags: int) -> nn.Module:
        """Return what makes the outputs."""

    @abstractmethod
    def loss(self, output: Tensor, target: Tensor, smoothing: float) -> Tensor:
        """Return each row's mean over its words, of tags (N, W): (N,)."""

    @abstractmethod
    def answers(self, output: Tensor) -> Tensor:
        """Return the most probable tags: (N, W') int64, 0 where there is no word."""

    @abstractmethod
    def scores(self, output: Tensor) -> Tensor:
        """Return the words' own scores (N, W', C), 0 where there is no word."""

    @abstractmethod
    def ensemble_output(self, outputs: Tensor, weights: Tensor | None) -> Tensor:
        """Return what several models say together: (M, N, ...) -> (N, ...)."""

    @abstractmethod
    def log_probabilities(self, output: Tensor) -> Tensor:
        """Return log p of each tag, word by word, up to a constant of each word: (N, W', C)."""

    @abstractmethod
    def output(self, scores: Tensor) -> Tensor:
        """Return an output of words' scores (N, W', C) alone."""


class WordByWord(TagModel):
    """Each word's tag by itself: outputs are logits (N, W', C)."""

    view = WordView()

    def head(self, dim: int, tags: int) -> nn.Module:
        """Return a linear layer to one logit a tag."""
        return nn.Linear(dim, tags)

    def loss(self, output: Tensor, target: Tensor, smoothing: float) -> Tensor:
        logits = output.to(torch.promote_types(output.dtype, torch.float32))
        wanted = padded_tags(target, logits.shape[1])
        losses = functional.cross_entropy(
            logits.mT,
            wanted,
            reduction="none",
            ignore_index=NO_WORD,
            label_smoothing=smoothing,
        )
        return losses.sum(dim=1) / (wanted >= 0).sum(dim=1).clamp(min=1)

    def answers(self, output: Tensor) -> Tensor:
        return output.argmax(dim=-1)

    def scores(self, output: Tensor) -> Tensor:
        return output

    def ensemble_output(self, outputs: Tensor, weights: Tensor | None) -> Tensor:
        """Return the logits of the mean probabilities of each word."""
        return mean_softmax(outputs, weights)

    def log_probabilities(self, output: Tensor) -> Tensor:
        return output.float()

    def output(self, scores: Tensor) -> Tensor:
        return scores


class Chain(TagModel):
    """Neighbours' tags depend on each other, see ``linear_chain``.

    Outputs are (N, C + 2 + W', C): a row's transitions, then its words' scores. Words without
    features, because they were cut off, and in training words without a tag, are left out of the
    chain.
    """

    view = ChainView()

    def head(self, dim: int, tags: int) -> nn.Module:
        """Return a linear layer to one score a tag, with the transitions between tags."""
        return ChainHead(dim, tags)

    def loss(self, output: Tensor, target: Tensor, smoothing: float) -> Tensor:
        """Return -mean_y log p(y) / L, where y is as labelled, but each word's tag is any other.

        L: words of the chain. Smoothing is word by word, and without transitions the loss is that
        of ``WordByWord``.
        """
        transitions, scores = self._parts(output)
        wanted = padded_tags(target, scores.shape[1])
        real = has_features(scores) & (wanted >= 0)
        scores, order, lengths = to_front(scores, real)
        tags = wanted.clamp(min=0).gather(1, order)
        right = functional.one_hot(tags, scores.shape[2]).to(scores.dtype)
        shares = torch.lerp(right, torch.full_like(right, 1 / scores.shape[2]), smoothing)
        shares = shares * real.gather(1, order)[..., None]
        with torch.autocast(scores.device.type, enabled=False):  # sums of many steps
            whole = log_partition(scores, transitions, lengths)
            own = mean_score(scores, transitions, lengths, shares)
        return (whole - own) / lengths.clamp(min=1)

    def answers(self, output: Tensor) -> Tensor:
        """Return the tags of the most probable row of tags."""
        transitions, scores = self._parts(output)
        real = has_features(scores)
        moved, order, lengths = to_front(scores, real)
        found = best_tags(moved, transitions, lengths)
        return torch.zeros_like(found).scatter(1, order, found).where(real, 0)

    def scores(self, output: Tensor) -> Tensor:
        return output[:, output.shape[-1] + MORE :]

    def ensemble_output(self, outputs: Tensor, weights: Tensor | None) -> Tensor:
        """Return the mean scores and transitions, p(y) ~ prod_m p_m(y)^w_m."""
        return weighted_mean(outputs, weights)

    def log_probabilities(self, output: Tensor) -> Tensor:
        """Return those of the marginal distributions p(y_i)."""
        transitions, scores = self._parts(output)
        real = has_features(scores)
        moved, order, lengths = to_front(scores, real)
        with torch.autocast(scores.device.type, enabled=False):
            found = log_marginals(moved, transitions, lengths)
        places = order[..., None].expand_as(found)
        return torch.zeros_like(found).scatter(1, places, found)

    def output(self, scores: Tensor) -> Tensor:
        tags = scores.shape[-1]
        return with_transitions(scores, scores.new_zeros(tags + MORE, tags))

    def _parts(self, output: Tensor) -> tuple[Tensor, Tensor]:
        """Return transitions (C + 2, C) and scores (N, W', C), W' >= 1."""
        precise = output.to(torch.promote_types(output.dtype, torch.float32))
        scores = self.scores(precise)
        # all rows have the same; a sum, as there may be no row
        transitions = precise[:1, : precise.shape[-1] + MORE].sum(dim=0)
        return transitions, functional.pad(scores, (0, 0, 0, int(not scores.shape[1])))


class ChainHead(nn.Module):
    """Scores of words, and the transitions between tags, which start at 0.

    Args:
        dim: width D of what it reads.
        tags: their number C.
    """

    def __init__(self, dim: int, tags: int) -> None:
        super().__init__()
        self.scores = nn.Linear(dim, tags)
        self.transitions = nn.Parameter(torch.zeros(tags + MORE, tags))

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return scores (..., C) of (..., D), and the transitions (C + 2, C)."""
        return self.scores(rows), self.transitions.clone()  # FSDP2 frees what it gathered


def has_features(scores: Tensor) -> Tensor:
    """Say which words the network read, of scores (N, W, C): (N, W) bool."""
    return scores.abs().amax(dim=-1) > 2 * FAINT


def to_front(scores: Tensor, real: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Put the words that count before the others.

    Returns:
        scores (N, W, C); (N, W) where each stood; (N,) how many of a row count.
    """
    order = (~real).to(torch.uint8).argsort(dim=1, stable=True)
    return scores.gather(1, order[..., None].expand_as(scores)), order, real.sum(dim=1)


class Tagging(Task):
    """Softmax cross-entropy over the tags: L = mean over a row's words of -log softmax(z)_y.

    A target is a list of tags or a text with one tag per word, separated by white space. Words
    beyond the tokens that are kept count as answered ``O``.

    With ``transitions`` it is a conditional random field: tags of neighbours depend on each other,
    L = -log p(y_1 ... y_L) / L of the whole row, and the answer is the most probable row of tags.
    What is predicted word by word, ``predictive_distribution``, are its marginals. Source: Lafferty
    et al. 2001; Lample et al. 2016, section 2.2.

    Args:
        dataset, target, unseen, unlabelled: as for ``Task``.
        classes: names of the tags; None: those of the training split, ``O`` first.
        label_smoothing: a of ``Classification``, in [0, 1), of each word by itself.
        transitions: whether scores of pairs of neighbours' tags are learnt, too.

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
        transitions: bool = False,
        unseen: str = "refuse",
        unlabelled: str | Sequence[str] = (),
    ) -> None:
        super().__init__(dataset, target, unseen=unseen, unlabelled=unlabelled)
        if not 0 <= label_smoothing < 1:
            raise UsageError(f"label_smoothing must be in [0, 1), got {label_smoothing}")
        self.label_smoothing = label_smoothing
        self.model: TagModel = Chain() if transitions else WordByWord()
        self.view = self.model.view
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
        """Return a linear layer to one logit a tag, beside the transitions if there are any."""
        return self.model.head(dim, require_classes(self.classes))

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return each row's mean over its words, of tags (N, W): (N,).

        Args:
            output: logits (N, W', C); with transitions, these stand before the words' scores,
                (N, C + 2 + W', C).
            target: tag numbers, -1 where there is no word, or no tag.
        """
        return self.model.loss(output, target, self.label_smoothing)

    def metric_input(self, output: Tensor) -> Tensor:
        """Return the predicted tag numbers: (N, W') int64."""
        return self.model.answers(output)

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
        real = functional.pad(self.model.scores(output).ne(0).any(dim=-1), (1, 0))
        lengths = (real * torch.arange(real.shape[1], device=real.device)).amax(dim=1).tolist()
        return [
            {"label": " ".join(self.classes[number] for number in row[:length])}
            for row, length in zip(answers.tolist(), lengths, strict=True)
        ]

    def ensemble_output(self, outputs: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return the logits of the mean probabilities of each word.

        With transitions: the mean scores, p(y) ~ prod_m p_m(y)^w_m of M models' rows of tags.
        """
        return self.model.ensemble_output(outputs, weights)

    def predictive_distribution(self, output: Tensor) -> Categorical:
        """Return p(y_i) word by word; with transitions, these are the marginals of p(y)."""
        return Categorical(logits=self.model.log_probabilities(output), validate_args=False)

    def scored_distribution(self, output: Tensor, target: Tensor) -> tuple[Categorical, Tensor]:
        """Return p(y_i) and y_i of all words with a tag."""
        logits = self.model.log_probabilities(output)
        wanted = padded_tags(target, logits.shape[1])
        real = wanted >= 0
        return Categorical(logits=logits[real], validate_args=False), wanted[real]

    def surprise(self, output: Tensor, target: Tensor) -> Tensor:
        """Return each row's -log p(y) over its number of words: (N,)."""
        return self.model.loss(output, target, 0.0)

    def calibrators(self) -> Mapping[str, Callable[[], Calibrator]]:
        """Return a temperature of all scores."""
        return {"temperature": partial(Temperature, self.surprise)}

    def answer_scores(self) -> TagScores:
        return TagScores(
            self.classes,
            self.model.log_probabilities,
            lambda output: has_features(self.model.scores(output)),
            self.model.answers,
            OUTSIDE,
        )

    def linear_output(self, columns: Tensor) -> Tensor:
        return self.model.output(super().linear_output(columns))

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

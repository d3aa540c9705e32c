"""The task contract: head, loss, metrics and labels of one thing to predict."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn import functional
from torchmetrics import Metric, MetricCollection

from datamodules.label_maps import MapFormat
from datamodules.labelled_task import EncodedTargets, LabelledTask, Target
from datamodules.lookalikes import lookalike_hint
from datamodules.prompts import Prompt, TextCodec
from datamodules.table import Column, Columns, written
from lightning_modules.calibration.base import Calibrator
from lightning_modules.conformal.base import ConformalPredictor
from lightning_modules.output_spaces import OutputSpace
from lightning_modules.tasks.answer_scores import AnswerScores
from lightning_modules.views import RowView, View
from pollinate.errors import PollinateError, UsageError
from pollinate.recipes import Buildable
from pollinate.suggest import hint, shown
from pollinate.yaml_words import quotes_hint


def parse_number(cell: Any) -> float | None:
    """Return a cell's number, None for an empty cell or NaN.

    Raises:
        ValueError: it is text that is no number.
    """
    if cell is None or (isinstance(cell, str) and not cell.strip()):
        return None
    if isinstance(cell, float | np.floating) and cell != cell:
        return None
    if isinstance(cell, bool | np.bool_):
        return float(cell)
    if isinstance(cell, str | int | float | np.number | Decimal):
        return float(cell)
    raise ValueError(cell)


def number_problem(cell: Any) -> str:
    """Say what is wrong with a cell as a number; nothing is an empty text."""
    try:
        value = parse_number(cell)
    except (ValueError, OverflowError):
        comma = isinstance(cell, str) and "," in cell
        advice = "write 3.5, not 3,5" if comma else "for words use type: classification"
        return f"must be a number, got {cell!r:.40}; {advice}"
    if value is not None and not math.isfinite(value):
        return f"must be finite, got {value}; leave the cell empty if the row has no label"
    if value is not None and abs(value) > LARGEST:
        return f"must be within {LARGEST:.4g}, which 32 bits can hold, got {value}; choose a unit"
    return ""


LARGEST = torch.finfo(torch.float32).max
COARSEST = 0.1  # step of float32 that targets may be rounded to, in standard deviations


def require_fine_steps(mean: float, std: float) -> None:
    """Check that float32, in which targets are trained on, tells them apart.

    Raises:
        PollinateError: its step at their size is beyond a tenth of their standard deviation.
    """
    step = float(np.spacing(np.float32(abs(mean))))
    if step > COARSEST * std:
        raise PollinateError(
            f"the targets' mean is {mean:.10g} and their standard deviation {std:.4g}, but numbers "
            f"of that size have steps of {step:.4g} in training's 32 bits; subtract {mean:.10g} "
            "from the column"
        )


def weighted_mean(outputs: Tensor, weights: Tensor | None) -> Tensor:
    """Return sum_m w_m z_m: (M, N, ...) -> (N, ...).

    Args:
        outputs: z_m of M models.
        weights: (M,), >= 0, of sum 1; None: 1/M each.
    """
    if weights is None:
        return outputs.mean(dim=0)
    precise = outputs.to(torch.promote_types(outputs.dtype, torch.float32))
    found: Tensor = torch.tensordot(weights.to(precise), precise, dims=1).to(outputs.dtype)
    return found


def log_weights(outputs: Tensor, weights: Tensor | None) -> Tensor:
    """Return log w_m beside outputs (M, N, ...): (M, 1, ...)."""
    if weights is None:
        weights = outputs.new_full((len(outputs),), 1 / len(outputs), dtype=torch.float32)
    return weights.to(outputs.device).float().log().view(-1, *(1,) * (outputs.dim() - 1))


def mean_softmax(outputs: Tensor, weights: Tensor | None = None, dim: int = -1) -> Tensor:
    """Return log sum_m w_m softmax(z_m), the logits of the mean: (M, N, ...) -> (N, ...).

    Where all logits are 0 there is no answer, and they stay 0.

    Args:
        outputs: logits z_m of M models.
        weights: w, (M,), >= 0, of sum 1; None: 1/M each.
        dim: of the classes, counted without the models.
    """
    place = dim if dim < 0 else dim + 1
    logits = functional.log_softmax(outputs.float(), dim=place)
    together = (logits + log_weights(outputs, weights)).logsumexp(dim=0)
    answered = outputs.ne(0).any(dim=0).any(dim=dim, keepdim=True)
    return together.where(answered, 0.0)


def mean_sigmoid(outputs: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the logits of sum_m w_m sigmoid(z_m), None: w = 1/M: (M, N, C) -> (N, C)."""
    logits, shares = outputs.float(), log_weights(outputs, weights)
    yes, no = functional.logsigmoid(logits), functional.logsigmoid(-logits)
    return (yes + shares).logsumexp(dim=0) - (no + shares).logsumexp(dim=0)


Label = dict[str, Any]


@dataclass(frozen=True)
class TargetForm:
    """What a task's targets (N, ...) must be, where they don't come from the task's own ``encode``.

    meaning: for messages, such as ``class numbers (N,)``.
    whole: whether they are whole numbers, int64; else float.
    shape: sizes after N, None for any.
    below: what all numbers are smaller than, None for no limit.
    """

    meaning: str
    whole: bool
    shape: tuple[int | None, ...] = ()
    below: int | None = None


def label_text(value: Any) -> str | None:
    """Return a label as text, None for an empty cell.

    A whole number stored as float (a column with gaps) reads like the number: 3.0 is "3". Bytes are
    UTF-8, as some programs write texts into Parquet.
    """
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    real = isinstance(value, float | np.floating)
    if value is None or (real and value != value):
        return None
    return written(value).strip() or None


def class_names(classes: int | Sequence[Any] | None) -> list[str] | None:
    """Return the names of classes that a user gives; None: they are learnt from the data.

    Args:
        classes: names, or a number n, which stands for "0" ... "n - 1".

    Raises:
        UsageError: there are fewer than two, or one comes twice.
    """
    if classes is None:
        return None
    if isinstance(classes, str | bool):
        raise UsageError(f"classes must be a list of names or a number of them, got {classes!r}")
    names = [str(n) for n in range(classes)] if isinstance(classes, int) else list(classes)
    if any(name is None or isinstance(name, bool) for name in names):
        raise UsageError(
            f"classes must be names, got {shown(names)}{quotes_hint(names)}; of a column of truth "
            'values they are "False" and "True"'
        )
    texts = [label_text(name) or "" for name in names]
    if len(texts) < 2 or len(set(texts)) < len(texts) or "" in texts:
        raise UsageError(f"classes must be 2 or more, each once, got {classes}")
    return texts


def class_problem(label: str | None, classes: Sequence[str] | None) -> str:
    """Say that a label is none of the classes that a user gave; nothing is an empty text."""
    if label is None or classes is None or label in classes:
        return ""
    known = hint(label, classes, "classes")
    return f"must be one of the classes, got {label!r}{known}{lookalike_hint([label], classes)}"


def require_classes(classes: Sequence[str]) -> int:
    """Return the number of classes.

    Raises:
        UsageError: they are not known yet.
    """
    if not classes:
        raise UsageError(
            "the classes are not known yet: set up the data module first, or give them to the "
            "task: classes=10, or classes=[names]"
        )
    return len(classes)


UNSEEN = ("refuse", "drop")


class Task(metaclass=Buildable):
    """One thing to predict.

    Args:
        dataset: the data set with its labels, or several; None: all of the data module's.
        target: the column with the labels, several of them, or {data set: either}; None where the
            labels are that a row has the task's modalities, or come as tensors. A cell that is
            None, NaN or an empty text is a row without a label.
        unseen: what is done about labels that only valid or test have: "refuse", or "drop", which
            counts them as missing.
        unlabelled: data sets, besides, that have no column with labels.

    Raises:
        UsageError: ``unseen`` is something else, or a data set is named in both.

    Attributes:
        datasets: names of all its data sets, those without labels last; empty until a data module
            says them where ``dataset`` is None.
        longest_answer: tokens of the longest answer in words in training, its end included; 0: it
            isn't known, or there are none.
        known: what another run learnt of the labels, for a task that no data set has labels of.
        score: the metric, larger is better, by which runs are compared.
        classes: names of the classes, in the order of the outputs; empty if there are none.
        view: what the task reads of its rows: one vector, words or cells.
        modalities: those that a row must have to be labelled; empty: the target says it.
        any_columns: whether any number of the columns of ``label_columns`` may apply to a row.
        maps: how a target that has a value for each pixel is read; None: a cell is a target.
        prompt: what a task that answers in words says to a language model; None: it has a head.
        valid_rows: rows of a validation split, the first, that answers are written for in training;
            None: all.

    Examples:
        >>> import torch, pollinate as po
        >>> task = po.tasks.Regression("reviews", target="stars")
        >>> isinstance(task, po.tasks.Task), task.score  # the metric by which runs are compared
        (True, 'r2')
        >>> task.learn([1.0, 3.0, 5.0])  # a data module does this with the training rows
        >>> task.decode(torch.tensor([4.0]))
        [{'label': 4.0}]
        >>> scores = task.baseline(torch.tensor([2.0, 4.0]))  # of always answering the mean
        >>> round(scores["mae"], 3)
        1.0
    """

    # a recipe, in a checkpoint, is of the type of task alone
    given_later: ClassVar[frozenset[str]] = frozenset({"dataset", "target", "unseen", "unlabelled"})

    score: str
    classes: Sequence[str] = ()
    view: View = RowView()
    modalities: Sequence[str] = ()
    any_columns: bool = False
    maps: MapFormat | None = None
    prompt: Prompt | None = None
    valid_rows: int | None = None
    longest_answer: int = 0
    known: Mapping[str, Any] | None = None

    def __init__(
        self,
        dataset: str | Sequence[str] | None = None,
        target: Target | Mapping[str, Target] | None = None,
        *,
        unseen: str = "refuse",
        unlabelled: str | Sequence[str] = (),
    ) -> None:
        if unseen not in UNSEEN:
            raise UsageError(f"unseen must be {' or '.join(UNSEEN)}, got {unseen!r}")
        self.dataset = None if dataset is None else names_in(dataset)
        self.target = target
        self.unseen = unseen
        self.unlabelled = names_in(unlabelled)
        for name in self.unlabelled:
            if name in (self.dataset or ()):
                raise UsageError(f"dataset and unlabelled both name {name!r}; choose one")
        known = () if self.dataset is None else (*self.dataset, *self.unlabelled)
        self.datasets: tuple[str, ...] = known

    @property
    def labels_words(self) -> bool:
        """Whether a text's words must be known among its tokens."""
        return self.view.words

    def use_datasets(self, names: Sequence[str]) -> None:
        """Be told the names of all data sets that there are.

        Raises:
            UsageError: the task is of another one, or of none, or lacks its target.
        """
        for name in (*(self.dataset or ()), *self.unlabelled):
            if name not in names:
                raise UsageError(f"there is no data set {name!r}{hint(name, names, 'data sets')}")
        others = tuple(name for name in names if name not in self.unlabelled)
        labelled = others if self.dataset is None else self.dataset
        self.datasets = (*labelled, *self.unlabelled)
        if not self.datasets:
            raise UsageError(f"the task has no data; name its data set: dataset={names[0]!r}")
        if labelled and self.target is None and not self.modalities:
            raise UsageError("target is missing; name the column with the labels: target=COLUMN")

    def target_in(self, dataset: str) -> Target:
        """Return the column(s) with the labels in one data set, none in one without labels.

        Raises:
            PollinateError: the target doesn't say that data set's column.
        """
        if dataset in self.unlabelled:
            return []
        if not isinstance(self.target, Mapping):
            return self.target or []
        if dataset not in self.target:
            known = hint(dataset, self.target, "known are")
            raise PollinateError(f"target must name the column in data set {dataset!r}{known}")
        return self.target[dataset]

    def output_space(self) -> OutputSpace | None:
        """Return how outputs are compared with another model's, None if they can't be."""
        return None

    def answer_space(self) -> OutputSpace | None:
        """Return how what ``TaskNetwork.answer`` gives is compared with another model's outputs."""
        return self.output_space()

    def problems(self, values: Column, inputs: Columns) -> dict[int, str]:
        """Return {row: what is wrong} for cells that can't be a label, whatever was learnt.

        An empty cell is no problem: its row isn't labelled.

        Args:
            values: N raw targets.
            inputs: {modality: N raw values}, for labels that must fit their input.
        """
        return {}

    def use_codec(self, codec: TextCodec) -> None:  # only of answers in words
        """Be told how answers in words become tokens, before anything is learnt or encoded."""

    @abstractmethod
    def learn(self, values: Iterable[Any]) -> None:
        """Learn vocabulary, scale and label frequencies from the training split's targets.

        The values are gone through once; they are cells, or what ``maps`` made of them.
        """

    @abstractmethod
    def encode(self, values: Iterable[Any]) -> EncodedTargets:
        """Turn raw targets, or what ``maps`` made of them, into tensors."""

    def notes(self) -> Iterator[str]:
        """Yield what a user should know of the labels that were learnt."""
        yield from ()

    def target_form(self) -> TargetForm | None:
        """Return what targets from someone else's loader are checked for; None: nothing."""
        return None

    @abstractmethod
    def head(self, dim: int) -> nn.Module:
        """Return the output layer: (N, dim) -> (N, ...)."""

    @abstractmethod
    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the unreduced loss: (N,)."""

    def answer_loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the unreduced loss of what ``TaskNetwork.answer`` gives: (N,)."""
        return self.loss(output, target)

    def metric_input(self, output: Tensor) -> Tensor:
        """Return what the metrics take of an output (N, ...)."""
        return output

    def metric_target(self, target: Tensor) -> Tensor:
        """Return what ``metrics`` take of targets (N, ...)."""
        return target

    @property
    def training_score(self) -> str:
        """The name of ``training_metric``."""
        return self.score

    @abstractmethod
    def metrics(self) -> MetricCollection:
        """Return fresh metrics that take (metric_input, metric_target)."""

    def training_metric(self) -> Metric:
        """Return a fresh metric for ``score`` on training rows, as they come."""
        metric = self.metrics()[self.score]
        assert isinstance(metric, Metric)
        return metric

    @abstractmethod
    def decode(self, output: Tensor) -> list[Label]:
        """Turn outputs (N, ...) into one answer for people a row."""

    @property
    def averages(self) -> bool:
        """Whether outputs of several models have a mean."""
        return True

    def ensemble_output(self, outputs: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return what several models say together: (M, N, ...) -> (N, ...).

        Args:
            outputs: of M models.
            weights: (M,), >= 0, of sum 1; None: all the same. Twice the weight is a model twice.
        """
        return weighted_mean(outputs, weights)

    def predictive_distribution(self, output: Tensor) -> Distribution | None:
        """Return p(y | x) of outputs (N, ...), None for a task that states no distribution."""
        return None

    def scored_distribution(
        self, output: Tensor, target: Tensor
    ) -> tuple[Distribution, Tensor] | None:
        """Return p(y | x) and y of all single answers that have a target, None if there is no p.

        Args:
            output: (N, ...); target: as metrics take it, (N, ...).
        """
        found = self.predictive_distribution(output)
        return None if found is None else (found, target)

    def surprise(self, output: Tensor, target: Tensor) -> Tensor:
        """Return -log p(y | x), without weights or smoothing: (N,).

        Args:
            output: (N, ...), of a task that states a distribution.
            target: as metrics take it, (N, ...).
        """
        found = self.predictive_distribution(output)
        assert found is not None
        return (
            -found.log_prob(target).flatten(1).sum(dim=1)
            if target.dim() > 1
            else (-found.log_prob(target))
        )

    def calibrators(self) -> Mapping[str, Callable[[], Calibrator]]:
        """Return {name: gives what may calibrate outputs}, the simplest first; none: {}.

        The first is taken unless a later one is surely better.
        """
        return {}

    def conformal(self) -> ConformalPredictor | None:
        """Return what makes sets or intervals of calibrated outputs, None if there are none."""
        return None

    def confidence(self, output: Tensor, calibrated: Tensor) -> Tensor | None:
        """Return how sure the answers are: (N,); None: unknown.

        Args:
            output: as the head gives it, (N, ...), which says the answer.
            calibrated: the same, calibrated, which says how sure it is.
        """
        return None

    def mistakes(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the error of each answer, in [0, 1] or in the target's unit: (N,).

        Args:
            output: as the head gives it, (N, ...); target: as metrics take it, (N, ...).
        """
        raise NotImplementedError("a task that has confidences has mistakes")

    def decode_calibrated(self, output: Tensor, calibrated: Tensor) -> list[Label]:
        """Return answers with calibrated probabilities; which answer it is, calibration leaves.

        Args:
            output: as the head gives it, (N, ...).
            calibrated: the same, calibrated.
        """
        return self.decode(calibrated)

    def answer_scores(self) -> AnswerScores | None:
        """Return what its answers can be explained by, None for a task whose answers can't be."""
        return None

    def write_with(self, options: Mapping[str, Any]) -> None:
        """Write answers in words otherwise than in training; other tasks don't change.

        Args:
            options: some of max_answer, beams, temperature, top_k, top_p, seed and stop, as
                ``Generation`` has them.

        Raises:
            UsageError: a value is out of range.
        """

    def writing_options(self) -> dict[str, Any]:
        """Return how answers in words are written, as transformers' ``generate`` takes it."""
        return {}

    def tokens_written(self, output: Tensor) -> int:
        """Return how many tokens were written, one after the other: 0 without answers in words."""
        return 0

    def at_size(self, answer: Label, size: tuple[int, int] | None) -> Label:
        """Return an answer as large as its picture, (height, width), if it has a size."""
        return answer

    def file(self, answer: Label) -> bytes | None:
        """Return an answer as a PNG's content, None if its cells say it."""
        return None

    def cells(self, answer: Label | None) -> dict[str, Any]:
        """Return an answer as cells of a table, {suffix of the task's name: value}."""
        known = answer or {}
        return {"": known.get("label"), "_probability": known.get("probability")}

    def cell_types(self) -> dict[str, type]:
        """Return {suffix of the task's name: str or float} of ``cells``."""
        return {"": str, "_probability": float}

    def label_columns(self, target: Tensor) -> Tensor | None:
        """Return targets (N, ...) as numbers that a linear model can predict: (N, K) float64.

        A column per class, 1 where it applies, or a number of mean 0; None: targets are neither.
        """
        return None

    @property
    def neutral(self) -> float | Tensor:
        """The output that says nothing of a row: one for all its numbers, or each of them."""
        return 0.0

    def linear_shift(self, columns: Tensor) -> Tensor:
        """Return what predicted ``label_columns`` (N, K) add to an output (N, ...)."""
        return columns

    def linear_output(self, columns: Tensor) -> Tensor:
        """Return predicted ``label_columns`` (N, K) as an output (N, ...)."""
        return self.neutral + self.linear_shift(columns)

    def class_numbers(self, target: Tensor) -> Tensor | None:
        """Return the one class of each target (N, ...): (N,) int64; None: there is none."""
        return None

    def class_probabilities(self, output: Tensor) -> Tensor | None:
        """Return what outputs (N, ...) say of the classes: (N, C), sum 1 per row.

        None: there are no classes of which a row has one.
        """
        return None

    @abstractmethod
    def baseline(self, target: Tensor) -> dict[str, float]:
        """Score on targets (N, ...) of the constant answer that is best by what was learnt."""

    def baseline_of(self, parts: Iterable[Tensor]) -> dict[str, float]:
        """Score as ``baseline`` on targets that come in parts (n, ...), of one part at least."""
        return self.baseline(torch.cat(list(parts)))

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """What ``learn`` learnt, as plain values."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what ``learn`` learnt in another run."""


def names_in(given: str | Sequence[str]) -> tuple[str, ...]:
    """Return what a user gave as one name, or as several."""
    return (given,) if isinstance(given, str) else tuple(given)


def as_task(task: LabelledTask) -> Task:
    """Narrow the type of a task of the data, whose layer knows only a part of it."""
    assert isinstance(task, Task)
    return task

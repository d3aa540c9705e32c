"""Any number of several labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.distributions import Bernoulli
from torch.nn import functional
from torchmetrics import MetricCollection
from torchmetrics.classification import MultilabelExactMatch, MultilabelF1Score

from datamodules.labelled_task import EncodedTargets, Target
from datamodules.table import Column, Columns
from lightning_modules.calibration.base import Calibrator
from lightning_modules.calibration.temperature import LabelTemperatures, Temperature
from lightning_modules.conformal.label_sets import LabelSets
from lightning_modules.output_spaces import BinaryOutputs
from lightning_modules.tasks.answer_scores import LabelScores
from lightning_modules.tasks.base import (
    Label,
    TargetForm,
    Task,
    class_names,
    class_problem,
    label_text,
    mean_sigmoid,
    parse_number,
    require_classes,
)
from lightning_modules.tasks.ranking_metrics import MeanAveragePrecision
from pollinate.errors import PollinateError, UsageError
from pollinate.yaml_words import FLAGS

LONE = 0.5  # probability above which a label is answered


class Multilabel(Task):
    """One yes or no for each label: L = -1/C sum_c w_c q_c log s(z_c) + (1 - q_c) log s(-z_c).

    q_c = y_c (1 - a) + a / 2. A target is a list, a text with separators, or a column per label.

    Args:
        dataset, target, unseen, unlabelled: as for ``Task``.
        classes: names of the labels, or n for "0" ... "n - 1"; None: those of the training split.
        separator: between the labels of a text.
        none: a text that means: looked at, and no label applies. An empty cell is not labelled.
        label_smoothing: a, in [0, 1).
        balanced: w_c = (n - n_c) / n_c, so that rare labels count as much when they apply as
            when they don't; else 1.

    Examples:
        >>> import torch, pollinate as po
        >>> task = po.tasks.Multilabel("reviews", "topics", classes=["food", "price", "staff"])
        >>> targets, present, _ = vars(task.encode(["food|staff", "price", ""])).values()
        >>> targets, present
        (tensor([[1., 0., 1.],
                [0., 1., 0.],
                [0., 0., 0.]]), tensor([ True,  True, False]))
        >>> task.loss(torch.zeros(3, 3), targets)
        tensor([0.6931, 0.6931, 0.6931])
    """

    score = "f1"
    any_columns = True

    def __init__(
        self,
        dataset: str | Sequence[str] | None = None,
        target: Target | Mapping[str, Target] | None = None,
        *,
        classes: int | Sequence[Any] | None = None,
        separator: str = "|",
        none: str | None = None,
        label_smoothing: float = 0.0,
        balanced: bool = False,
        unseen: str = "refuse",
        unlabelled: str | Sequence[str] = (),
    ) -> None:
        super().__init__(dataset, target, unseen=unseen, unlabelled=unlabelled)
        if not separator:
            raise UsageError("separator must be at least one character, got an empty text")
        if not 0 <= label_smoothing < 1:
            raise UsageError(f"label_smoothing must be in [0, 1), got {label_smoothing}")
        self.separator = separator
        self.none = none
        self.label_smoothing = label_smoothing
        self.balanced = balanced
        self.given = class_names(classes)
        self.classes: list[str] = list(self.given or ())
        self.counts: list[int] = []  # training rows with each label
        self.rows = 0  # labelled training rows

    def output_space(self) -> BinaryOutputs:
        return BinaryOutputs()

    def labels(self, cell: Any) -> list[str] | None:
        """Return the labels of a cell, None if it is not labelled.

        Args:
            cell: a list, a text, or {column: 0 or 1}.
        """
        if isinstance(cell, Mapping):
            said = {name: parse_flag(value) for name, value in cell.items()}
            known = {name: value for name, value in said.items() if value is not None}
            return [name for name, value in known.items() if value] if known else None
        if isinstance(cell, list | tuple | np.ndarray):
            return [text for item in cell if (text := label_text(item)) is not None]
        text = label_text(cell)
        if text is None:
            return None
        if text == self.none:
            return []
        return [part.strip() for part in text.split(self.separator) if part.strip()]

    def problems(self, values: Column, inputs: Columns) -> dict[int, str]:
        """Return cells that can't be labels.

        These are columns that are not 0 or 1, or partly empty, lists of 0 and 1, and labels that
        are none of the classes that were given.
        """
        found = {}
        for row, cell in enumerate(values):
            if isinstance(cell, Mapping) and (problem := columns_problem(cell)):
                found[row] = problem
            elif isinstance(cell, list | np.ndarray) and is_a_row_of_flags(cell):
                found[row] = f"must list the labels that apply, got a 0 or 1 for each: {cell!s:.40}"
            elif isinstance(cell, Tensor | Image.Image):
                found[row] = f"must list the labels that apply, got {type(cell).__name__}"
            else:
                wrong = (class_problem(name, self.given) for name in self.labels(cell) or ())
                if problem := next(filter(None, wrong), ""):
                    found[row] = problem
        return found

    def learn(self, values: Iterable[Any]) -> None:
        """Count the classes; take the sorted distinct labels unless they were given.

        Raises:
            PollinateError: there are fewer than two.
        """
        counts: Counter[str] = Counter()
        self.rows = 0
        for cell in values:
            if (found := self.labels(cell)) is not None:
                self.rows += 1
                counts.update(set(found))
                if isinstance(cell, Mapping):
                    counts.update(dict.fromkeys(cell, 0))
        if len(counts) < 2:
            raise PollinateError(
                f"labels must be >= 2 in the training split, got {len(counts)} "
                f"({', '.join(counts) or 'none at all'}); check target and separator, or use type: "
                "classification for a single yes or no"
            )
        self.classes = sorted(counts) if self.given is None else list(self.given)
        self.counts = [counts[name] for name in self.classes]

    def encode(self, values: Iterable[Any]) -> EncodedTargets:
        """Return 1 where a label applies: (N, C) float32; rows with unseen labels lack a target."""
        places = {name: place for place, name in enumerate(self.classes)}
        rows, present, unseen = [], [], {}
        for row, cell in enumerate(values):
            found = self.labels(cell)
            strange = [name for name in found or () if name not in places]
            if strange:
                unseen[row] = strange[0]
            present.append(found is not None and not strange)
            rows.append([places[name] for name in found or () if name in places])
        targets = torch.zeros(len(rows), len(places))
        for row, own in enumerate(rows):
            targets[row, own] = 1.0
        return EncodedTargets(targets, torch.tensor(present, dtype=torch.bool), unseen)

    def target_form(self) -> TargetForm:
        return TargetForm("0 or 1 for each label (N, C)", False, (len(self.classes),), 2)

    def head(self, dim: int) -> nn.Module:
        """Return a linear layer to one logit per label."""
        return nn.Linear(dim, require_classes(self.classes))

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the loss of logits (N, C) and 0 or 1 (N, C): (N,)."""
        logits = output.to(torch.promote_types(output.dtype, torch.float32))
        smooth = target * (1 - self.label_smoothing) + self.label_smoothing / 2
        return functional.binary_cross_entropy_with_logits(
            logits, smooth.to(logits), reduction="none", pos_weight=self._weights(logits)
        ).mean(dim=1)

    def _weights(self, like: Tensor) -> Tensor | None:
        if not self.balanced:
            return None
        if not self.counts:
            raise UsageError(
                "balanced needs to know how often each label applies, which a data module learns; "
                "leave it out where labels come as tensors"
            )
        counts = torch.tensor(self.counts, dtype=torch.float64)
        return ((self.rows - counts) / counts.clamp(min=1)).clamp(min=1e-3).to(like)

    def metrics(self) -> MetricCollection:
        """Return macro and micro F1, mean average precision, and the share of rows all right."""
        count, options = len(self.classes), dict[str, Any](threshold=LONE, validate_args=False)
        return MetricCollection(
            {
                "f1": MultilabelF1Score(count, average="macro", **options),
                "f1_micro": MultilabelF1Score(count, average="micro", **options),
                "map": MeanAveragePrecision(count),
                "exact": MultilabelExactMatch(count, **options),
            },
            compute_groups=False,
        )

    def metric_input(self, output: Tensor) -> Tensor:
        """Return probabilities, in float64: float32 makes those of logits above 17 equal."""
        return output.double().sigmoid()

    def decode(self, output: Tensor) -> list[Label]:
        """Return the labels that apply, as a text, and the probabilities of all."""
        answers = []
        for row in output.float().sigmoid().tolist():
            named = dict(zip(self.classes, row, strict=True))
            label = self.separator.join(name for name, value in named.items() if value > LONE)
            answers.append({"label": label, "probabilities": named})
        return answers

    def ensemble_output(self, outputs: Tensor, weights: Tensor | None = None) -> Tensor:
        return mean_sigmoid(outputs, weights)

    def predictive_distribution(self, output: Tensor) -> Bernoulli:
        """Return each label's probability, the labels taken to be independent."""
        return Bernoulli(logits=output.float(), validate_args=False)

    def calibrators(self) -> Mapping[str, Callable[[], Calibrator]]:
        """Return a temperature, and one for each label."""
        return {
            "temperature": partial(Temperature, self.surprise),
            "label_temperatures": LabelTemperatures,
        }

    def conformal(self) -> LabelSets:
        """Return sets that miss few of the labels that apply."""
        return LabelSets(self.classes)

    def confidence(self, output: Tensor, calibrated: Tensor) -> Tensor:
        """Return the expected share of labels that are rightly said to apply or not: (N,)."""
        yes = calibrated.double().sigmoid()
        return torch.maximum(yes, 1 - yes).mean(dim=1)

    def mistakes(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the share of labels that are wrongly said to apply or not: (N,)."""
        return ((output.double().sigmoid() > LONE) != target.bool()).float().mean(dim=1)

    def answer_scores(self) -> LabelScores:
        return LabelScores(self.classes)

    def cells(self, answer: Label | None) -> dict[str, Any]:
        """Return the labels, and each label's probability."""
        known = (answer or {}).get("probabilities", {})
        label = (answer or {}).get("label")
        return {"": label} | {f"_{name}": known.get(name) for name in self.classes}

    def cell_types(self) -> dict[str, type]:
        return {"": str} | {f"_{name}": float for name in self.classes}

    def label_columns(self, target: Tensor) -> Tensor:
        """Return a column per label: (N, C)."""
        return target.double()

    def linear_shift(self, columns: Tensor) -> Tensor:
        """Return predicted flags as logits, 0 where a flag is as near to 0 as to 1: (N, C)."""
        return columns - 0.5

    def baseline(self, target: Tensor) -> dict[str, float]:
        """Score of always predicting the labels that most training rows have."""
        if not len(target):
            return {}
        counts = self.counts or [0] * len(self.classes)
        common = torch.tensor([float(2 * count > self.rows) for count in counts])
        metrics = self.metrics()
        metrics.update(common.to(target).expand_as(target), target.int())
        return {name: value.item() for name, value in metrics.compute().items()}

    def state_dict(self) -> dict[str, Any]:
        return {"classes": list(self.classes), "counts": list(self.counts), "rows": self.rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.classes, self.counts = list(state["classes"]), list(state["counts"])
        self.rows = state["rows"]


def parse_flag(value: Any) -> float | None:
    """Return a label's cell as 0 or 1, or the number that it is; None for an empty cell.

    Raises:
        ValueError: it is text that is neither a number nor a word for yes or no.
    """
    word = value.strip().lower() if isinstance(value, str) else None
    return float(FLAGS[word]) if word in FLAGS else parse_number(value)


def columns_problem(cell: Mapping[str, Any]) -> str:
    """Say what is wrong with a cell of several columns."""
    for name, value in cell.items():
        try:
            known = parse_flag(value) in (None, 0.0, 1.0)
        except (ValueError, OverflowError):
            known = False
        if not known:
            words = ", or true or false" if isinstance(value, str) else ""
            return f"{name} must be 0 or 1{words}, got {value!r:.40}"
    empty = [name for name, value in cell.items() if parse_flag(value) is None]
    if empty and len(empty) < len(cell):
        return f"{', '.join(empty)} must be 0 or 1, or all columns of the row empty"
    return ""


def is_a_row_of_flags(cell: Sequence[Any] | np.ndarray) -> bool:
    """Return whether a list says 0 or 1 for each label, not which apply."""
    if any(isinstance(item, bool | np.bool_) for item in cell):
        return True
    labels = [text for item in cell if (text := label_text(item)) is not None]
    words = {label.lower() for label in labels}
    return len(labels) > len(words) and words <= {"0", "1", "true", "false"}

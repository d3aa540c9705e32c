"""One of several classes that have an order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Categorical
from torch.nn import functional
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from datamodules.labelled_task import EncodedTargets, Target
from datamodules.table import Column, Columns
from lightning_modules.calibration.base import Calibrator
from lightning_modules.calibration.temperature import Temperature
from lightning_modules.calibration.threshold_shifts import ThresholdShifts
from lightning_modules.conformal.class_sets import OrdinalSets
from lightning_modules.output_spaces import BinaryOutputs
from lightning_modules.tasks.answer_scores import NumberScores
from lightning_modules.tasks.base import (
    Label,
    TargetForm,
    class_problem,
    label_text,
    mean_sigmoid,
    require_classes,
)
from lightning_modules.tasks.class_metrics import MacroF1, QuadraticKappa
from lightning_modules.tasks.number_metrics import AbsoluteError
from lightning_modules.tasks.single_label import SingleLabelTask


class Ordinal(SingleLabelTask):
    """Is the class above k, for each k: L = -sum_k [y > k] log s(z_k) + [y <= k] log s(-z_k).

    z_k = w x + b_k with one w for all thresholds, so that the answers agree with each other. The
    answer is the number of thresholds with s(z_k) > 1/2. Source: CORAL, Cao, Mirjalili & Raschka
    2020, equations 3 to 5; here the mean over the K - 1 thresholds.

    Args:
        dataset, target, unseen, unlabelled: as for ``Task``.
        classes: names, lowest first, or n for "0" ... "n - 1"; None: the numbers of the training
            split.

    Examples:
        >>> import torch, pollinate as po
        >>> task = po.tasks.Ordinal("reviews", target="stars", classes=["poor", "fair", "good"])
        >>> logits = torch.tensor([[3.0, -1.0]])  # surely above poor, hardly above fair
        >>> task.decode(logits)[0]["label"]
        'fair'
        >>> task.loss(logits, torch.tensor([1])), task.loss(logits, torch.tensor([0]))
        (tensor([0.1809]), tensor([1.6809]))
    """

    score = "kappa"

    def __init__(
        self,
        dataset: str | Sequence[str] | None = None,
        target: Target | Mapping[str, Target] | None = None,
        *,
        classes: int | Sequence[Any] | None = None,
        unseen: str = "refuse",
        unlabelled: str | Sequence[str] = (),
    ) -> None:
        super().__init__(dataset, target, classes, unseen, unlabelled)

    def output_space(self) -> BinaryOutputs:
        return BinaryOutputs(ordered=True)

    def problems(self, values: Column, inputs: Columns) -> dict[int, str]:
        """Return labels that have no place in the order."""
        found = {}
        for row, value in enumerate(values):
            text = label_text(value)
            if text is not None and self.given is None and not is_number(text):
                found[row] = (
                    f"must be a number, got {text!r}; else name the classes, lowest first: "
                    "classes: [...]"
                )
            elif problem := class_problem(text, self.given):
                found[row] = problem
        return found

    def in_order(self, labels: Iterable[str]) -> list[str]:
        """Return the labels as numbers, lowest first."""
        return sorted(labels, key=float)

    def encode(self, values: Iterable[Any]) -> EncodedTargets:
        """Map labels to places in the order, 0 where there is none: (N,) int64."""
        numbers = {label: place for place, label in enumerate(self.classes)}
        texts = [label_text(value) for value in values]
        found = torch.tensor(
            [-1 if text is None else numbers.get(text, -1) for text in texts], dtype=torch.int64
        )
        unseen = {r: t for r, t in enumerate(texts) if t is not None and t not in numbers}
        return EncodedTargets(found.clamp(min=0), found >= 0, unseen)

    def target_form(self) -> TargetForm:
        return TargetForm("places in the order (N,)", True, below=len(self.classes))

    def head(self, dim: int) -> nn.Module:
        """Return one weight vector and K - 1 thresholds."""
        return Thresholds(dim, require_classes(self.classes) - 1)

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the loss of logits (N, K - 1) and places (N,): (N,)."""
        logits = output.to(torch.promote_types(output.dtype, torch.float32))
        above = (target[:, None] > torch.arange(logits.shape[1], device=target.device)).to(logits)
        return functional.binary_cross_entropy_with_logits(logits, above, reduction="none").mean(1)

    def metric_input(self, output: Tensor) -> Tensor:
        """Return the predicted places: (N,)."""
        return places(output)

    def metrics(self) -> MetricCollection:
        """Return quadratic weighted kappa, accuracy, macro F1, and the error in places."""
        count = len(self.classes)
        return MetricCollection(
            {
                "kappa": QuadraticKappa(),
                "accuracy": MulticlassAccuracy(count, average="micro", validate_args=False),
                "f1": MacroF1(count),
                "mae": AbsoluteError(),
            },
            compute_groups=False,
        )

    def decode(self, output: Tensor) -> list[Label]:
        """Return the class, its probability, and those of all classes."""
        return self.decode_calibrated(output, output)

    def decode_calibrated(self, output: Tensor, calibrated: Tensor) -> list[Label]:
        rows = self.class_probabilities(calibrated.float()).tolist()
        return self.answers(places(output).tolist(), rows)

    def chosen(self, output: Tensor) -> Tensor:
        return places(output)

    def calibrators(self) -> Mapping[str, Callable[[], Calibrator]]:
        """Return a temperature of all thresholds, and one with a shift for each."""
        return {
            "temperature": partial(Temperature, self.surprise),
            "shifts": partial(ThresholdShifts, self.surprise),
        }

    def conformal(self) -> OrdinalSets:
        """Return ranges of classes."""
        return OrdinalSets(self.classes, probabilities=self.class_probabilities)

    def ensemble_output(self, outputs: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return the logits of the mean probabilities of being above each class."""
        return mean_sigmoid(outputs, weights)

    def predictive_distribution(self, output: Tensor) -> Categorical:
        return Categorical(probs=self.class_probabilities(output.float()), validate_args=False)

    def answer_scores(self) -> NumberScores:
        meaning = "log-odds of being above a class, the mean over the classes"
        return NumberScores(meaning, lambda output: output.mean(dim=1))

    def class_probabilities(self, output: Tensor) -> Tensor:
        """Return p(class >= k) - p(class >= k + 1) of logits (N, C - 1), thresholds in order."""
        above = output.sigmoid().cummin(dim=1).values
        edges = functional.pad(functional.pad(above, (1, 0), value=1.0), (0, 1), value=0.0)
        return edges[:, :-1] - edges[:, 1:]

    def linear_shift(self, columns: Tensor) -> Tensor:
        """Return logits of being above each class, 0 where that is as likely as not: (N, K - 1)."""
        above = columns.flip(1).cumsum(dim=1).flip(1)[:, 1:]
        return above - 0.5

    def linear_output(self, columns: Tensor) -> Tensor:
        """Return the thresholds below the class with the highest column as passed: (N, K - 1)."""
        places = columns.argmax(dim=1, keepdim=True)
        return (places > torch.arange(columns.shape[1] - 1)).double() - 0.5

    def baseline(self, target: Tensor) -> dict[str, float]:
        """Score of always predicting the training split's middle class."""
        if not len(target):
            return {}
        total = list(accumulate(self.counts or [1] * len(self.classes)))
        middle = next(place for place, below in enumerate(total) if 2 * below >= total[-1])
        error = (target - middle).abs().double()
        return {
            "kappa": 0.0,
            "accuracy": (error == 0).double().mean().item(),
            "mae": error.mean().item(),
        }


class Thresholds(nn.Module):
    """w x + b_k: (N, dim) -> (N, K - 1); the thresholds start in order, even."""

    def __init__(self, dim: int, count: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, 1, bias=False)
        self.bias = nn.Parameter(torch.linspace(1.0, -1.0, count) if count > 1 else torch.zeros(1))

    def forward(self, rows: Tensor) -> Tensor:
        """Return one logit per threshold."""
        logits: Tensor = self.linear(rows) + self.bias
        return logits


def places(output: Tensor) -> Tensor:
    """Return the predicted places: (N, K - 1) -> (N,) int64."""
    return (output > 0).sum(dim=1)


def is_number(text: str) -> bool:
    """Say whether a label is a finite number."""
    try:
        return abs(float(text)) < float("inf")
    except ValueError:
        return False

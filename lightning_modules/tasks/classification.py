"""One of several classes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.distributions import Categorical
from torch.nn import functional
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from datamodules.labelled_task import EncodedTargets, Target
from datamodules.table import Column, Columns
from lightning_modules.calibration.base import Calibrator
from lightning_modules.calibration.temperature import Temperature
from lightning_modules.calibration.vector_scaling import VectorScaling
from lightning_modules.conformal.class_sets import ClassSets
from lightning_modules.output_spaces import CategoricalOutput
from lightning_modules.tasks.answer_scores import ClassScores
from lightning_modules.tasks.base import (
    Label,
    TargetForm,
    class_problem,
    label_text,
    mean_softmax,
    require_classes,
)
from lightning_modules.tasks.class_metrics import MacroF1, confusion_metric
from lightning_modules.tasks.ranking_metrics import TwoClassAUROC
from lightning_modules.tasks.row_weights import class_weights, focal_factor, require_class_weights
from lightning_modules.tasks.single_label import SingleLabelTask
from pollinate.errors import UsageError

SEVERAL = (list, tuple, set, Mapping, np.ndarray, Tensor, Image.Image)


class Classification(SingleLabelTask):
    """Softmax cross-entropy over classes, by default those of the training split.

    L = -w_y (1 - p_y)^g sum_c q_c log p_c, p = softmax(z), q = (1 - a) onehot(y) + a / C. Source:
    smoothing a, Szegedy et al. 2016, section 7; focal loss g, Lin et al. 2017, equation 5.

    Args:
        dataset, target, unseen, unlabelled: as for ``Task``.
        classes: names, or n for "0" ... "n - 1"; None: the labels of the training split.
        label_smoothing: a, in [0, 1).
        class_weights: w: null (1), balanced (n / (C n_c)), or {class: weight}; scaled so that their
            mean over the training rows is 1.
        focal: g, >= 0; 0 is plain cross-entropy.

    Examples:
        >>> import torch, pollinate as po
        >>> task = po.tasks.Classification("reviews", target="mood", classes=["angry", "glad"])
        >>> logits = torch.tensor([[0.0, 2.0], [0.0, 2.0]])
        >>> task.loss(logits, torch.tensor([1, 0]))
        tensor([0.1269, 2.1269])
        >>> [answer["label"] for answer in task.decode(logits)]
        ['glad', 'glad']
        >>> task.head(dim=8)
        Linear(in_features=8, out_features=2, bias=True)
    """

    score = "accuracy"

    def __init__(
        self,
        dataset: str | Sequence[str] | None = None,
        target: Target | Mapping[str, Target] | None = None,
        *,
        classes: int | Sequence[Any] | None = None,
        label_smoothing: float = 0.0,
        class_weights: str | Mapping[str, float] | None = None,
        focal: float = 0.0,
        unseen: str = "refuse",
        unlabelled: str | Sequence[str] = (),
    ) -> None:
        super().__init__(dataset, target, classes, unseen, unlabelled)
        if not 0 <= label_smoothing < 1:
            raise UsageError(f"label_smoothing must be in [0, 1), got {label_smoothing}")
        if not focal >= 0:
            raise UsageError(f"focal must be >= 0, got {focal}")
        require_class_weights(class_weights)
        self.label_smoothing = label_smoothing
        self.class_weights = class_weights
        self.focal = focal

    def output_space(self) -> CategoricalOutput:
        return CategoricalOutput()

    def problems(self, values: Column, inputs: Columns) -> dict[int, str]:
        """Return cells that hold several labels, or none of the classes that were given."""
        found = {}
        for row, cell in enumerate(values):
            if isinstance(cell, SEVERAL):
                advice = "for several use type: multilabel"
                found[row] = f"must be one label, got {cell!r:.40}; {advice}"
            elif problem := class_problem(label_text(cell), self.given):
                found[row] = problem
        return found

    def in_order(self, labels: Iterable[str]) -> list[str]:
        return sorted(labels)

    def encode(self, values: Iterable[Any]) -> EncodedTargets:
        """Map labels to class numbers, 0 where there is none: (N,) int64 and (N,) bool."""
        numbers = {label: number for number, label in enumerate(self.classes)}
        unseen: dict[int, str] = {}

        def numbered() -> Iterator[int]:
            for row, value in enumerate(values):
                text = label_text(value)
                number = -1 if text is None else numbers.get(text, -1)
                if text is not None and number < 0:
                    unseen[row] = text
                yield number

        # one number at a time: there may be millions of labels
        targets = torch.from_numpy(np.fromiter(numbered(), dtype=np.int64))
        return EncodedTargets(targets.clamp(min=0), targets >= 0, unseen)

    def target_form(self) -> TargetForm:
        return TargetForm("class numbers (N,)", True, below=len(self.classes))

    def head(self, dim: int) -> nn.Module:
        """Return a linear layer to one logit per class."""
        return nn.Linear(dim, require_classes(self.classes))

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the cross-entropy of logits (N, C) and class numbers (N,): (N,)."""
        logits = output.to(torch.promote_types(output.dtype, torch.float32))
        loss = functional.cross_entropy(
            logits, target, reduction="none", label_smoothing=self.label_smoothing
        )
        weights = class_weights(self.class_weights, self.classes, self.counts)
        if weights is not None:
            loss = loss * weights.to(logits)[target]
        if self.focal:
            right = functional.log_softmax(logits, dim=-1).gather(-1, target[..., None])
            loss = loss * focal_factor(right.squeeze(-1), self.focal)
        return loss

    def metrics(self) -> MetricCollection:
        """Return accuracy, macro F1 and confusions; the area under ROC of two classes."""
        count = len(self.classes)
        found: dict[str, Metric] = {
            "accuracy": MulticlassAccuracy(count, average="micro", validate_args=False),
            "f1": MacroF1(count),
            "confusion": confusion_metric(count),
        }
        if count == 2:
            found["auroc"] = TwoClassAUROC()
        return MetricCollection(dict(found), compute_groups=False)

    def decode(self, output: Tensor) -> list[Label]:
        """Return the likeliest class and its probability, and those of all classes."""
        return self.decode_calibrated(output, output)

    def decode_calibrated(self, output: Tensor, calibrated: Tensor) -> list[Label]:
        rows = calibrated.float().softmax(dim=-1).tolist()
        return self.answers(self.chosen(output.float()).tolist(), rows)

    def chosen(self, output: Tensor) -> Tensor:
        return output.argmax(dim=-1)

    def calibrators(self) -> Mapping[str, Callable[[], Calibrator]]:
        """Return a temperature, and a factor and a shift for each class."""
        return {"temperature": Temperature, "vector": VectorScaling}

    def conformal(self) -> ClassSets:
        """Return adaptive sets of classes."""
        return ClassSets(self.classes)

    def ensemble_output(self, outputs: Tensor, weights: Tensor | None = None) -> Tensor:
        return mean_softmax(outputs, weights)

    def predictive_distribution(self, output: Tensor) -> Categorical:
        return Categorical(logits=output.float(), validate_args=False)

    def answer_scores(self) -> ClassScores:
        return ClassScores(self.classes)

    def class_probabilities(self, output: Tensor) -> Tensor:
        return output.double().softmax(dim=-1)

    def baseline(self, target: Tensor) -> dict[str, float]:
        """Score of always predicting the training split's most frequent class."""
        if not len(target):
            return {}
        majority = self.counts.index(max(self.counts)) if self.counts else 0
        return {"accuracy": (target == majority).double().mean().item()}

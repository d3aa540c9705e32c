"""A class for each pixel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.distributions import Categorical
from torch.nn import functional
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from datamodules.label_maps import MAX_CLASS, UNLABELLED_PIXEL, ClassMap
from datamodules.labelled_task import EncodedTargets, Target
from lightning_modules.tasks.base import (
    Label,
    TargetForm,
    class_names,
    mean_softmax,
    require_classes,
)
from lightning_modules.tasks.class_metrics import UNLABELLED, MeanIoU, confusion_metric
from lightning_modules.tasks.dense import MAP, DenseTask, MapHead, class_colormap, upsampled
from lightning_modules.tasks.row_weights import class_weights, require_class_weights
from pollinate.errors import PollinateError, UsageError

BYTE = 255  # the largest number of a palette


class Segmentation(DenseTask):
    """Softmax cross-entropy of every pixel: L = mean over a row's labelled pixels of l_p.

    l_p is the loss of ``Classification``, of logits that are enlarged bilinearly from the encoder's
    grid. A target is the path of a PNG with a class number a pixel, or of a palette PNG.

    Args:
        dataset, target, unseen, unlabelled: as for ``Task``.
        classes: names of the classes 0, 1, ..., or their number; None: the numbers in the training
            split.
        size: height and width of the pictures, where no data module says it.
        ignore: the number of pixels that are not labelled; None: all are.
        label_smoothing, class_weights: as for ``Classification``, with pixels for rows.
        layers: 3 x 3 convolutions of the head, >= 0.

    Examples:
        >>> import torch, pollinate as po
        >>> task = po.tasks.Segmentation("scenes", "mask", classes=["ground", "ball"], size=[2, 2])
        >>> logits = torch.tensor([[[[0.0]], [[2.0]]]])  # one cell for four pixels
        >>> task.loss(logits, torch.tensor([[[1, 1], [1, -1]]]))  # -1: a pixel without a label
        tensor([0.1269])
        >>> task.metric_input(logits)
        tensor([[[1, 1],
                 [1, 1]]], dtype=torch.int32)
    """

    score = "miou"
    maps: ClassMap

    def __init__(
        self,
        dataset: str | Sequence[str] | None = None,
        target: Target | Mapping[str, Target] | None = None,
        *,
        classes: int | Sequence[Any] | None = None,
        size: Sequence[int] | None = None,
        ignore: int | None = 255,
        label_smoothing: float = 0.0,
        class_weights: str | Mapping[str, float] | None = None,
        layers: int = 1,
        unseen: str = "refuse",
        unlabelled: str | Sequence[str] = (),
    ) -> None:
        if not 0 <= label_smoothing < 1:
            raise UsageError(f"label_smoothing must be in [0, 1), got {label_smoothing}")
        require_class_weights(class_weights)
        self.names = class_names(classes)
        maps = ClassMap(ignore, None if self.names is None else len(self.names))
        super().__init__(maps, layers, size, dataset, target, unseen=unseen, unlabelled=unlabelled)
        self.label_smoothing = label_smoothing
        self.class_weights = class_weights
        self.classes: list[str] = list(self.names or ())
        self.numbers: list[int] = list(range(len(self.classes)))
        self.counts: list[int] = []  # training pixels of each class

    def learn(self, values: Iterable[Any]) -> None:
        """Count the training pixels of each class; without names take the numbers that there are.

        Raises:
            PollinateError: fewer than two classes.
        """
        counts = np.zeros(MAX_CLASS + 2, np.int64)
        for value in values:
            if value is not None:
                self.size = np.shape(value)
                found = np.bincount(np.ravel(value))
                counts[: len(found)] += found
        counts[UNLABELLED_PIXEL] = 0
        there = (np.flatnonzero(counts) - 1).tolist()
        if len(there) < 2:
            raise PollinateError(
                f"classes must be >= 2 in the training split's masks, got {len(there)} "
                f"({', '.join(map(self.name, there)) or 'no labels at all'}); check target, split "
                "and ignore"
            )
        if self.names is None:
            self.numbers, self.classes = there, [str(number) for number in there]
        self.counts = counts[np.array(self.numbers) + 1].tolist()

    def name(self, number: int) -> str:
        """Return the name of a class number."""
        return str(number) if self.names is None else self.names[number]

    def encode(self, values: Iterable[Any]) -> EncodedTargets:
        """Return places of classes, -1 where a pixel is not labelled: (N, H, W) int32."""
        table = np.full(MAX_CLASS + 2, UNLABELLED, np.int32)
        table[np.array(self.numbers, np.int64) + 1] = np.arange(len(self.numbers))
        given = self.stacked(values)
        targets = table[given]
        strange = (targets == UNLABELLED) & (given != UNLABELLED_PIXEL)
        unseen = {
            int(row): self.name(int(given[row][strange[row]][0]) - 1)
            for row in np.flatnonzero(strange.any(axis=(1, 2)))
        }
        present = (targets != UNLABELLED).any(axis=(1, 2))
        return EncodedTargets(torch.from_numpy(targets), torch.from_numpy(present), unseen)

    def target_form(self) -> TargetForm:
        return TargetForm("class numbers (N, H, W)", True, (None, None), len(self.classes))

    def head(self, dim: int) -> nn.Module:
        """Return convolutions to one logit per class and cell."""
        return MapHead(dim, require_classes(self.classes), self.layers)

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return each row's loss, of logits (N, C, H', W') and targets (N, H, W): (N,)."""
        weights = self._weights()
        found, start = [], 0
        for logits in upsampled(output, (target.shape[1], target.shape[2])):
            wanted = target[start : start + len(logits)].long()
            start += len(logits)
            losses = functional.cross_entropy(
                logits,
                wanted,
                reduction="none",
                ignore_index=UNLABELLED,
                label_smoothing=self.label_smoothing,
            )
            labelled = wanted != UNLABELLED
            if weights is not None:
                losses = losses * weights.to(logits)[wanted.clamp(min=0)]
            found.append(losses.sum(dim=(1, 2)) / labelled.sum(dim=(1, 2)).clamp(min=1))
        return torch.cat(found)

    def _weights(self) -> Tensor | None:
        return class_weights(self.class_weights, self.classes, self.counts)

    def metric_input(self, output: Tensor) -> Tensor:
        """Return the places of the predicted classes: (N, H, W) int32."""
        parts = [logits.argmax(dim=1).int() for logits in upsampled(output, self.size)]
        return torch.cat(parts)

    def metrics(self) -> MetricCollection:
        """Return mean intersection over union, share of right pixels, and confusions.

        Over all labelled pixels of a split; the mean is over the classes that are there, or that
        were answered.
        """
        count = len(self.classes)
        options: dict[str, Any] = {"ignore_index": UNLABELLED, "validate_args": False}
        return MetricCollection(
            {
                "miou": MeanIoU(count),
                "pixel_accuracy": MulticlassAccuracy(count, average="micro", **options),
                "confusion": confusion_metric(count),
            },
            compute_groups=False,
        )

    def decode(self, output: Tensor) -> list[Label]:
        """Return class numbers by pixel, as masks hold them."""
        numbers = np.array(self.numbers)
        answers = numbers[self.metric_input(output).cpu().numpy()]
        has = self.answered(output)
        return [{MAP: found} if own else {} for found, own in zip(answers, has, strict=True)]

    def ensemble_output(self, outputs: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return the logits of the mean probabilities of each cell."""
        return mean_softmax(outputs, weights, dim=1)

    def predictive_distribution(self, output: Tensor) -> Categorical:
        """Return the softmax of logits (N, C, H', W'), cell by cell."""
        return Categorical(logits=output.float().movedim(1, -1), validate_args=False)

    def png(self, values: np.ndarray) -> Image.Image:
        """Return a palette picture, or one of 16 bits for numbers beyond a palette."""
        if values.max() > BYTE:
            return Image.fromarray(values.astype(np.uint16))
        picture = Image.fromarray(values.astype(np.uint8), mode="P")
        picture.putpalette(class_colormap(BYTE + 1).tobytes())
        return picture

    def constant(self) -> int:
        """Return the place of the training split's most frequent class."""
        return self.counts.index(max(self.counts)) if self.counts else 0

    def state_dict(self) -> dict[str, Any]:
        return {
            "classes": list(self.classes),
            "numbers": list(self.numbers),
            "counts": list(self.counts),
            "size": list(self.size),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.classes, self.numbers = list(state["classes"]), list(state["numbers"])
        self.counts = list(state["counts"])
        self.size = (state["size"][0], state["size"][1])

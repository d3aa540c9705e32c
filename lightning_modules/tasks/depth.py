"""A distance for each pixel."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection

from datamodules.label_maps import UNLABELLED_PIXEL, DepthMap
from datamodules.labelled_task import EncodedTargets, Target
from lightning_modules.tasks.base import Label, TargetForm, require_fine_steps
from lightning_modules.tasks.dense import MAP, DenseTask, MapHead, upsampled
from lightning_modules.tasks.number_metrics import (
    AbsoluteError,
    RelativeError,
    RootSquaredError,
)
from pollinate.errors import PollinateError

WORD = 65_535  # the largest number of 16 bits


class Depth(DenseTask):
    """Absolute error of every pixel: L = mean over a row's measured pixels of |z_p - y_p| / s.

    s and m are standard deviation and mean of the training split's pixels; the head gives
    z = m + s u, enlarged bilinearly from the encoder's grid. Answers and metrics are in metres, or
    whatever the user's unit is. Source: L1 as in Liu, Johns and Davison 2019, section 4.1.2; the
    scaling is ours, so that the loss doesn't depend on the unit.

    Args:
        dataset, target, unseen, unlabelled: as for ``Task``.
        size: height and width of the pictures, where no data module says it.
        scale: > 0, metres of a unit of a PNG of whole numbers; an .npy with a point is in metres.
        layers: 3 x 3 convolutions of the head, >= 0.

    Examples:
        >>> import torch, pollinate as po
        >>> task = po.tasks.Depth("scenes", target="depth", size=[1, 2])
        >>> output = torch.tensor([[[[3.0]]]])  # one cell for two pixels, in metres
        >>> task.loss(output, torch.tensor([[[2.0, 0.0]]]))  # 0: a pixel that wasn't measured
        tensor([1.])
    """

    score = "delta1"
    maps: DepthMap

    def __init__(
        self,
        dataset: str | Sequence[str] | None = None,
        target: Target | Mapping[str, Target] | None = None,
        *,
        size: Sequence[int] | None = None,
        scale: float = 0.001,
        layers: int = 1,
        unseen: str = "refuse",
        unlabelled: str | Sequence[str] = (),
    ) -> None:
        super().__init__(
            DepthMap(scale), layers, size, dataset, target, unseen=unseen, unlabelled=unlabelled
        )
        self.mean, self.std = 1.0, 1.0

    def learn(self, values: Iterable[Any]) -> None:
        """Learn mean and standard deviation of the measured pixels, joining maps one by one.

        Source: Chan, Golub and LeVeque 1979, equation 2.1.

        Raises:
            PollinateError: there are no measurements, all are the same, or float32 can't tell
                them apart.
        """
        count, mean, squares = 0, 0.0, 0.0
        for value in values:
            if value is None:
                continue
            self.size = np.shape(value)
            own = np.asarray(value, np.float64)
            own = own[own != UNLABELLED_PIXEL]
            if own.size:
                apart, total = own.mean() - mean, count + own.size
                squares += own.var() * own.size + apart**2 * count * own.size / total
                mean, count = mean + apart * own.size / total, total
        if not count:
            raise PollinateError("the training split has no measured pixel; check target and split")
        if not squares > 0:
            raise PollinateError(
                f"distances must differ, all {count:,} training pixels have {mean:g}; leave the "
                "task out"
            )
        self.mean, self.std = float(mean), math.sqrt(squares / count)
        require_fine_steps(self.mean, self.std)

    def encode(self, values: Iterable[Any]) -> EncodedTargets:
        """Return distances, 0 where nothing was measured: (N, H, W) float32."""
        targets = torch.from_numpy(np.asarray(self.stacked(values), np.float32))
        return EncodedTargets(targets, targets.ne(UNLABELLED_PIXEL).flatten(1).any(dim=1))

    def target_form(self) -> TargetForm:
        return TargetForm("distances (N, H, W), 0 or NaN where none is known", False, (None, None))

    def head(self, dim: int) -> nn.Module:
        """Return convolutions to a number per cell, and its scale."""
        return Scaled(MapHead(dim, 1, self.layers), self.mean, self.std)

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return each row's loss, of distances (N, 1, H', W') and targets (N, H, W): (N,)."""
        found, start = [], 0
        for distances in upsampled(output, (target.shape[1], target.shape[2])):
            wanted = target[start : start + len(distances)]
            start += len(distances)
            measured = wanted != UNLABELLED_PIXEL
            errors = (distances[:, 0] - wanted).abs() / self.std
            total = errors.where(measured, errors.new_zeros(())).sum(dim=(1, 2))
            found.append(total / measured.sum(dim=(1, 2)).clamp(min=1))
        return torch.cat(found)

    def metric_input(self, output: Tensor) -> Tensor:
        """Return distances >= 0: (N, H, W)."""
        return torch.cat([found[:, 0] for found in upsampled(output, self.size)]).clamp(min=0)

    def metrics(self) -> MetricCollection:
        """Return the share of pixels less than 25 % off, absolute, relative and squared error."""
        return MetricCollection(
            {
                "delta1": ThresholdAccuracy(),
                "abs": MeasuredAbsoluteError(),
                "rel": MeasuredRelativeError(),
                "rmse": MeasuredRootSquaredError(),
            },
            compute_groups=False,
        )

    def decode(self, output: Tensor) -> list[Label]:
        answers, has = self.metric_input(output).float().cpu().numpy(), self.answered(output)
        return [{MAP: found} if own else {} for found, own in zip(answers, has, strict=True)]

    def png(self, values: np.ndarray) -> Image.Image:
        """Return a picture of 16 bits in units of ``scale``, at least 1: 0 is no measurement."""
        units = np.round(values / self.maps.scale).clip(1, WORD)
        return Image.fromarray(units.astype(np.uint16))

    def constant(self) -> float:
        """Return the training split's mean."""
        return self.mean

    def state_dict(self) -> dict[str, Any]:
        return {"mean": self.mean, "std": self.std, "size": list(self.size)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.mean, self.std = state["mean"], state["std"]
        self.size = (state["size"][0], state["size"][1])


class Scaled(nn.Module):
    """m + s f(x), in float32 at least."""

    def __init__(self, inner: nn.Module, mean: float, std: float) -> None:
        super().__init__()
        self.inner = inner
        self.mean, self.std = mean, std

    def forward(self, cells: Tensor) -> Tensor:
        """Return numbers in the target's unit: (N, dim, H', W') -> (N, 1, H', W')."""
        scaled = self.inner(cells)
        found: Tensor = self.mean + self.std * scaled.to(
            torch.promote_types(scaled.dtype, torch.float32)
        )
        return found


class MeasuredAbsoluteError(AbsoluteError):
    """mean |z - y| over the measured pixels."""

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add maps (N, H, W)."""
        super().update(preds[target != UNLABELLED_PIXEL], target[target != UNLABELLED_PIXEL])


class MeasuredRelativeError(RelativeError):
    """mean |z - y| / y over the measured pixels."""

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add maps (N, H, W)."""
        super().update(preds[target != UNLABELLED_PIXEL], target[target != UNLABELLED_PIXEL])


class MeasuredRootSquaredError(RootSquaredError):
    """The root of mean (z - y)^2 over the measured pixels."""

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add maps (N, H, W)."""
        super().update(preds[target != UNLABELLED_PIXEL], target[target != UNLABELLED_PIXEL])


class ThresholdAccuracy(Metric):
    """Share of measured pixels with max(z / y, y / z) < 1.25.

    Source: Eigen, Puhrsch and Fergus 2014, "Depth map prediction from a single image using a
    multi-scale deep network", section 3.3.
    """

    full_state_update = False
    higher_is_better = True

    def __init__(self) -> None:
        super().__init__()
        for name in ("hits", "pixels"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.hits: Tensor
        self.pixels: Tensor

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add maps (N, H, W)."""
        near = (preds < 1.25 * target) & (target < 1.25 * preds) & (target != UNLABELLED_PIXEL)
        self.hits += near.sum()
        self.pixels += (target != UNLABELLED_PIXEL).sum()

    def compute(self) -> Tensor:
        return self.hits / self.pixels.clamp(min=1)

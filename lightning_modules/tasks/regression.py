"""A number."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics import MetricCollection

from datamodules.labelled_task import EncodedTargets, Target
from datamodules.table import Column, Columns
from lightning_modules.output_spaces import NumericOutput
from lightning_modules.tasks.base import (
    Label,
    TargetForm,
    Task,
    number_problem,
    parse_number,
    require_fine_steps,
)
from lightning_modules.tasks.number_metrics import R2, AbsoluteError, RootSquaredError
from pollinate.errors import PollinateError, UsageError


class Regression(Task):
    """Squared error of the standardised target: L = ((z - (y - m) / s)^2) / 2.

    m and s are mean and standard deviation, by default of the training split. Answers and metrics
    are in the target's own unit.

    Args:
        dataset, target, unseen, unlabelled: as for ``Task``.
        scale: [m, s], in the target's unit, s > 0; None: learnt, and 0 and 1 before that.
        huber: d > 0: beyond d standard deviations the loss is linear, d (|e| - d / 2), so that
            outliers pull less (Huber 1964); None: squared everywhere.

    Examples:
        >>> import torch, pollinate as po
        >>> task = po.tasks.Regression("shop", target="price", scale=[20.0, 5.0], huber=2.0)
        >>> task.loss(torch.tensor([25.0, 60.0]), torch.tensor([20.0, 20.0]))  # 1 and 8 s off
        tensor([ 0.5000, 14.0000])
        >>> task.decode(torch.tensor([25.0]))
        [{'label': 25.0}]
    """

    score = "r2"

    def __init__(
        self,
        dataset: str | Sequence[str] | None = None,
        target: Target | Mapping[str, Target] | None = None,
        *,
        scale: Sequence[float] | None = None,
        huber: float | None = None,
        unseen: str = "refuse",
        unlabelled: str | Sequence[str] = (),
    ) -> None:
        super().__init__(dataset, target, unseen=unseen, unlabelled=unlabelled)
        if huber is not None and not huber > 0:
            raise UsageError(f"huber must be > 0 standard deviations or null, got {huber}")
        self.huber = huber
        mean, std = (0.0, 1.0) if scale is None else scale if len(scale) == 2 else (0.0, 0.0)
        if not (math.isfinite(mean) and 0 < std < math.inf):
            raise UsageError(
                f"scale must be [mean, standard deviation], finite, the latter > 0; got {scale}"
            )
        self.given = scale is not None
        self.mean, self.std = float(mean), float(std)

    def output_space(self) -> NumericOutput:
        return NumericOutput(self.std)

    def problems(self, values: Column, inputs: Columns) -> dict[int, str]:
        """Return the cells that are no finite number."""
        found = ((row, number_problem(cell)) for row, cell in enumerate(values))
        return {row: problem for row, problem in found if problem}

    def learn(self, values: Iterable[Any]) -> None:
        """Learn mean and standard deviation, unless given, by Welford's running sums.

        Raises:
            PollinateError: there are no numbers, all are the same, or float32 can't tell them
                apart.
        """
        count, mean, squares = 0, 0.0, 0.0
        for cell in values:
            if (value := parse_number(cell)) is not None:
                count += 1
                before = value - mean
                mean += before / count
                squares += before * (value - mean)
        if not count:
            raise PollinateError("the training split has no numbers; check target and split")
        if self.given:
            return
        if squares > 0:
            require_fine_steps(mean, math.sqrt(squares / count))
        else:
            raise PollinateError(
                f"the targets must differ, all {count:,} training rows have {mean:g}; leave the "
                "task out"
            )
        self.mean, self.std = mean, math.sqrt(squares / count)

    def encode(self, values: Iterable[Any]) -> EncodedTargets:
        """Return the numbers in their own unit, 0 where there is none: (N,) float32."""
        found = [parse_number(cell) for cell in values]
        targets = torch.tensor([0.0 if value is None else value for value in found])
        return EncodedTargets(
            targets.float(), torch.tensor([v is not None for v in found], dtype=torch.bool)
        )

    def target_form(self) -> TargetForm:
        return TargetForm("numbers (N,)", False)

    def head(self, dim: int) -> nn.Module:
        """Return a linear layer to one number, and its scale."""
        return Rescaled(dim, self.mean, self.std)

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the loss of numbers (N,) in the target's unit: (N,)."""
        error = (output.to(torch.promote_types(output.dtype, torch.float32)) - target) / self.std
        if self.huber is None:
            return error.square() / 2
        return functional.huber_loss(
            error, torch.zeros_like(error), reduction="none", delta=self.huber
        )

    def metrics(self) -> MetricCollection:
        """Return R2, mean absolute and root mean squared error."""
        return MetricCollection(
            {"r2": R2(), "mae": AbsoluteError(), "rmse": RootSquaredError()},
            compute_groups=False,
        )

    def decode(self, output: Tensor) -> list[Label]:
        return [{"label": value} for value in output.float().tolist()]

    def cells(self, answer: Label | None) -> dict[str, Any]:
        return {"": (answer or {}).get("label")}

    def cell_types(self) -> dict[str, type]:
        return {"": float}

    def label_columns(self, target: Tensor) -> Tensor:
        """Return the standardised numbers: (N, 1)."""
        return ((target.double() - self.mean) / self.std)[:, None]

    @property
    def neutral(self) -> float:
        """The training split's mean."""
        return self.mean

    def linear_shift(self, columns: Tensor) -> Tensor:
        """Return predicted standardised numbers (N, 1) as differences from the mean: (N,)."""
        return columns[:, 0] * self.std

    def baseline(self, target: Tensor) -> dict[str, float]:
        """Score of always predicting the training split's mean."""
        if not len(target):
            return {}
        metrics = self.metrics()
        wanted = target.double()
        metrics.update(torch.full_like(wanted, self.mean), wanted)
        return {name: value.item() for name, value in metrics.compute().items()}

    def state_dict(self) -> dict[str, Any]:
        return {"mean": self.mean, "std": self.std}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.mean, self.std = state["mean"], state["std"]


class Rescaled(nn.Module):
    """m + s (w x + b): (N, dim) -> (N,), in float32 at least."""

    def __init__(self, dim: int, mean: float, std: float) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, 1)
        self.mean, self.std = mean, std

    def forward(self, rows: Tensor) -> Tensor:
        scaled = self.linear(rows).squeeze(-1)
        precise = scaled.to(torch.promote_types(scaled.dtype, torch.float32))
        found: Tensor = self.mean + self.std * precise
        return found

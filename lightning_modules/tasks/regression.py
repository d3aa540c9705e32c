"""A number."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Normal
from torchmetrics import MetricCollection

from datamodules.labelled_task import EncodedTargets, Target
from datamodules.table import Column, Columns
from lightning_modules.calibration.base import Calibrator
from lightning_modules.conformal.intervals import IntervalPredictor
from lightning_modules.output_spaces import NumericOutput
from lightning_modules.tasks.answer_scores import NumberScores
from lightning_modules.tasks.base import (
    Label,
    TargetForm,
    Task,
    number_problem,
    parse_number,
    require_fine_steps,
)
from lightning_modules.tasks.number_metrics import R2, AbsoluteError, RootSquaredError
from lightning_modules.tasks.number_models import NUMBER_MODELS, NumberHead, NumberModel
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
        noise: what is predicted besides: "constant", nothing; "input", a standard deviation for
            each row (``Spread``); "quantiles", those at .05, .5 and .95 (``Quantiles``), of which
            the middle one is answered.

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
        noise: str = "constant",
        unseen: str = "refuse",
        unlabelled: str | Sequence[str] = (),
    ) -> None:
        super().__init__(dataset, target, unseen=unseen, unlabelled=unlabelled)
        if huber is not None and not huber > 0:
            raise UsageError(f"huber must be > 0 standard deviations or null, got {huber}")
        if noise not in NUMBER_MODELS:
            raise UsageError(f"noise must be {' or '.join(NUMBER_MODELS)}, got {noise!r}")
        if huber is not None and noise == "quantiles":
            raise UsageError("huber is of squared errors, quantiles have none; leave one out")
        self.huber = huber
        self.noise = noise
        self.model: NumberModel = NUMBER_MODELS[noise]()
        mean, std = (0.0, 1.0) if scale is None else scale if len(scale) == 2 else (0.0, 0.0)
        if not (math.isfinite(mean) and 0 < std < math.inf):
            raise UsageError(
                f"scale must be [mean, standard deviation], finite, the latter > 0; got {scale}"
            )
        self.given = scale is not None
        self.mean, self.std = float(mean), float(std)

    def output_space(self) -> NumericOutput:
        return NumericOutput(self.std, self.model.point)

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
        """Return a linear layer to one number, and what else is predicted, and its scale."""
        return NumberHead(dim, self.model, self.mean, self.std)

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the loss of outputs (N, ...) in the target's unit: (N,)."""
        precise = output.to(torch.promote_types(output.dtype, torch.float32))
        return self.model.loss(precise, target, self.std, self.huber)

    def metric_input(self, output: Tensor) -> Tensor:
        """Return the numbers that are answered: (N,)."""
        return self.model.point(output)

    def metrics(self) -> MetricCollection:
        """Return R2, mean absolute and root mean squared error."""
        return MetricCollection(
            {"r2": R2(), "mae": AbsoluteError(), "rmse": RootSquaredError()},
            compute_groups=False,
        )

    def decode(self, output: Tensor) -> list[Label]:
        """Return the numbers, and their standard deviations where these are known."""
        numbers = self.model.point(output.float()).tolist()
        found = self.model.distribution(output)
        if found is None:
            return [{"label": value} for value in numbers]
        spreads = found.scale.tolist()
        return [{"label": v, "std": std} for v, std in zip(numbers, spreads, strict=True)]

    def ensemble_output(self, outputs: Tensor, weights: Tensor | None = None) -> Tensor:
        return self.model.together(outputs, weights)

    def predictive_distribution(self, output: Tensor) -> Normal | None:
        """Return a normal distribution where outputs have a spread, of the head or calibrated."""
        return self.model.distribution(output)

    def calibrators(self) -> Mapping[str, Callable[[], Calibrator]]:
        """Return what gives numbers a standard deviation, or corrects it; none of quantiles."""
        return self.model.calibrators()

    def conformal(self) -> IntervalPredictor:
        return self.model.intervals()

    def confidence(self, output: Tensor, calibrated: Tensor) -> Tensor | None:
        """Return minus the standard deviation: (N,); None: no row is surer than another."""
        found = self.model.distribution(calibrated)
        return None if found is None or self.model.width == 1 else -found.scale

    def mistakes(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the absolute error: (N,)."""
        return (self.model.point(output) - target).abs()

    def answer_scores(self) -> NumberScores:
        return NumberScores("the number, in its own unit", self.model.point)

    def cells(self, answer: Label | None) -> dict[str, Any]:
        return {"": (answer or {}).get("label")}

    def cell_types(self) -> dict[str, type]:
        return {"": float}

    def label_columns(self, target: Tensor) -> Tensor:
        """Return the standardised numbers: (N, 1)."""
        return ((target.double() - self.mean) / self.std)[:, None]

    @property
    def neutral(self) -> float | Tensor:
        """The training split's mean, with its spread."""
        return self.model.neutral(self.mean, self.std)

    def linear_shift(self, columns: Tensor) -> Tensor:
        """Return predicted standardised numbers (N, 1) as differences from the mean: (N, ...)."""
        return self.model.shifted(columns[:, 0] * self.std)

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

"""AdaMerging: coefficients that minimise the entropy of the merged model's predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call

from datamodules.batch import Batch
from lightning_modules.merging.base import MergeMethod, MergeResult
from lightning_modules.merging.evaluator import MergeEvaluator
from lightning_modules.merging.layerwise import layer_of
from lightning_modules.merging.models import MergeRule, Models, ResultTensor
from lightning_modules.merging.task_vectors import task_vector
from pollinate.errors import UsageError


class AdaMerging(MergeMethod):
    """theta_l = theta_0l + sum_i c_il tau_il, c minimising sum_t mean_x H(p_t(y | x)).

    By Adam, over rows of the validation split whose labels aren't looked at. Source: Yang et al.
    2024, "AdaMerging", equations 4 and 6 (layer-wise) or 3 and 5 (task-wise). Deviations:
    validation rows in place of test rows; a layer is a block of the network; tasks that state no
    distribution, such as regression, take no part; BatchNorm's statistics are those at the start.

    Args:
        start: of all c.
        steps: of the optimizer, >= 1.
        lr: learning rate, > 0.
        rows: of each data set in a step, >= 1.
        layers: whether each layer has coefficients of its own.
        seed: of the draws, >= 0.

    Raises:
        UsageError: an option is out of its range.

    Examples:
        >>> import pollinate as po
        >>> method = po.merging.AdaMerging(steps=2, layers=False)
        >>> options = {"base": "runs/first", "overrides": ["tracking=none"], "quiet": True}
        >>> both = po.merge({"a": "runs/first", "b": "runs/first"}, method, "runs/both", **options)
        >>> list(both.tasks)
        ['mood', 'stars']
    """

    needs_base: ClassVar[bool] = True

    def __init__(
        self,
        start: float = 0.3,
        steps: int = 200,
        lr: float = 0.01,
        rows: int = 16,
        layers: bool = True,
        seed: int = 0,
    ) -> None:
        for name, value in (("steps", steps), ("rows", rows)):
            if value < 1:
                raise UsageError(f"{name} must be >= 1, got {value}")
        if not lr > 0:
            raise UsageError(f"lr must be > 0, got {lr}")
        self.start = start
        self.steps = steps
        self.lr = lr
        self.rows = rows
        self.layers = layers
        self.seed = seed

    def merge(self, models: Models, evaluator: MergeEvaluator) -> MergeResult:
        places = self._places(models)
        width = max(places.values(), default=0) + 1
        begun = torch.full((len(models), width), self.start, dtype=torch.float64)
        coefficients, first, last = self._optimised(models, evaluator, places, begun)
        columns: dict[int, str] = {}
        for unit, place in places.items():
            columns.setdefault(place, layer_of(unit.name) if self.layers else "all")
        named = {
            name: dict(zip(models.labels, coefficients[:, place].tolist(), strict=True))
            for place, name in columns.items()
        }
        found = {"layers": named, "entropy": {"start": first, "end": last}}
        return MergeResult(models.merged(task_vector_rule(coefficients, places)), found)

    def _places(self, models: Models) -> dict[ResultTensor, int]:
        """Return {tensor that is merged: column of its coefficients}."""
        numbers: dict[str, int] = {}
        places = {}
        for unit in models.units:
            if models.is_merged(unit) and unit.in_base:
                layer = layer_of(unit.name) if self.layers else ""
                places[unit] = numbers.setdefault(layer, len(numbers))
        return places

    def _optimised(
        self,
        models: Models,
        evaluator: MergeEvaluator,
        places: Mapping[ResultTensor, int],
        begun: Tensor,
    ) -> tuple[Tensor, float, float]:
        """Return (coefficients (k, L), entropy at first, entropy at last)."""
        evaluator.load(models.merged(task_vector_rule(begun, places)))
        starts, taus = bases_and_task_vectors(models, places, evaluator.device)
        coefficients = begun.clone().requires_grad_()
        optimizer = torch.optim.Adam([coefficients], lr=self.lr)
        generator = np.random.default_rng(self.seed)
        entropies = []
        for _ in range(self.steps):
            weights = {
                unit.name: starts[unit] + (coefficients[owners, place].to(tau) @ tau).view_as(start)
                for unit, place in places.items()
                for start, tau, owners in [(starts[unit], taus[unit], list(unit.owners))]
            }
            loss = total_entropy(evaluator, weights, evaluator.mixed("valid", self.rows, generator))
            (coefficients.grad,) = torch.autograd.grad(loss, [coefficients])
            optimizer.step()
            entropies.append(loss.item())
        return coefficients.detach(), entropies[0], entropies[-1]


def bases_and_task_vectors(
    models: Models, units: Mapping[ResultTensor, int], device: torch.device
) -> tuple[dict[ResultTensor, Tensor], dict[ResultTensor, Tensor]]:
    """Return ({tensor: theta_0}, {tensor: the owners' tau (k, n)})."""
    starts, taus = {}, {}
    for unit, tensors, start in models.stream(units):
        assert start is not None
        starts[unit] = start.clone().to(device)
        found = [task_vector(tensor, start).to(start.dtype).reshape(-1) for tensor in tensors]
        taus[unit] = torch.stack(found).to(device)
    return starts, taus


def total_entropy(
    evaluator: MergeEvaluator, weights: Mapping[str, Tensor], batch: Mapping[str, Batch]
) -> Tensor:
    """Return sum_t mean_x H(p_t(y | x)) of the network with other weights.

    Raises:
        UsageError: no task states a distribution.
    """
    outputs = functional_call(evaluator.network, dict(weights), (batch,))
    found = []
    for task, output in outputs.items():
        predictive_distribution = evaluator.module.tasks[task].predictive_distribution(output)
        if predictive_distribution is not None:
            found.append(predictive_distribution.entropy().mean())
    if not found:
        raise UsageError(
            "adamerging makes predictions confident, but no task of these models predicts "
            "probabilities; "
            f"the tasks are {', '.join(outputs)}: use method=layerwise"
        )
    return torch.stack(found).sum()


def task_vector_rule(coefficients: Tensor, places: Mapping[ResultTensor, int]) -> MergeRule:
    """Return the rule theta_0 + sum_i c_i tau_i."""

    def rule(unit: ResultTensor, tensors: Sequence[Tensor], start: Tensor | None) -> Tensor:
        assert start is not None
        total = start.double()
        for owner, tensor in zip(unit.owners, tensors, strict=True):
            total = total + coefficients[owner, places[unit]] * task_vector(tensor, start)
        return total.to(tensors[0].dtype)

    return rule

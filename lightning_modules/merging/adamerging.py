"""AdaMerging: coefficients that make the merged model sure of its answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call

from lightning_modules.merging.base import Merged, Merging
from lightning_modules.merging.layerwise import layer_of
from lightning_modules.merging.models import Models, Rule, Unit
from lightning_modules.merging.vectors import task_vector
from pipeline.errors import UsageError

if TYPE_CHECKING:
    from datamodules.batch import Batch
    from lightning_modules.merging.bench import Bench


class AdaMerging(Merging):
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

    def merge(self, models: Models, bench: Bench) -> Merged:
        """Optimise, and merge."""
        places = self._places(models)
        width = max(places.values(), default=0) + 1
        begun = torch.full((len(models), width), self.start, dtype=torch.float64)
        coefficients, first, last = self._optimised(models, bench, places, begun)
        columns: dict[int, str] = {}
        for unit, place in places.items():
            columns.setdefault(place, layer_of(unit.name) if self.layers else "all")
        named = {
            name: dict(zip(models.labels, coefficients[:, place].tolist(), strict=True))
            for place, name in columns.items()
        }
        found = {"layers": named, "entropy": {"start": first, "end": last}}
        return Merged(models.merged(rule_of(coefficients, places)), found)

    def _places(self, models: Models) -> dict[Unit, int]:
        """Return {tensor that is merged: column of its coefficients}."""
        numbers: dict[str, int] = {}
        places = {}
        for unit in models.units:
            if models.is_merged(unit) and unit.in_base:
                layer = layer_of(unit.name) if self.layers else ""
                places[unit] = numbers.setdefault(layer, len(numbers))
        return places

    def _optimised(
        self, models: Models, bench: Bench, places: Mapping[Unit, int], begun: Tensor
    ) -> tuple[Tensor, float, float]:
        """Return (coefficients (k, L), entropy at first, entropy at last)."""
        bench.load(models.merged(rule_of(begun, places)))
        starts, taus = vectors(models, places, bench.device)
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
            loss = entropy(bench, weights, bench.mixed("valid", self.rows, generator))
            (coefficients.grad,) = torch.autograd.grad(loss, [coefficients])
            optimizer.step()
            entropies.append(loss.item())
        return coefficients.detach(), entropies[0], entropies[-1]


def vectors(
    models: Models, units: Mapping[Unit, int], device: torch.device
) -> tuple[dict[Unit, Tensor], dict[Unit, Tensor]]:
    """Return ({tensor: theta_0}, {tensor: the owners' tau (k, n)})."""
    starts, taus = {}, {}
    for unit, tensors, start in models.stream(units):
        assert start is not None
        starts[unit] = start.clone().to(device)
        found = [task_vector(tensor, start).to(start.dtype).reshape(-1) for tensor in tensors]
        taus[unit] = torch.stack(found).to(device)
    return starts, taus


def entropy(bench: Bench, weights: Mapping[str, Tensor], batch: Mapping[str, Batch]) -> Tensor:
    """Return sum_t mean_x H(p_t(y | x)) of the network with other weights.

    Raises:
        UsageError: no task states a distribution.
    """
    outputs = functional_call(bench.network, dict(weights), (batch,))
    found = []
    for task, output in outputs.items():
        belief = bench.module.tasks[task].belief(output)
        if belief is not None:
            found.append(belief.entropy().mean())
    if not found:
        raise UsageError(
            "adamerging makes answers sure, and no task of the models states how sure it is; "
            f"the tasks are {', '.join(outputs)}: use method=layerwise"
        )
    return torch.stack(found).sum()


def rule_of(coefficients: Tensor, places: Mapping[Unit, int]) -> Rule:
    """Return the rule theta_0 + sum_i c_i tau_i."""

    def rule(unit: Unit, tensors: Sequence[Tensor], start: Tensor | None) -> Tensor:
        assert start is not None
        total = start.double()
        for owner, tensor in zip(unit.owners, tensors, strict=True):
            total = total + coefficients[owner, places[unit]] * task_vector(tensor, start)
        return total.to(tensors[0].dtype)

    return rule

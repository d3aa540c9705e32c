"""Averages weighted by each model's Fisher information."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from lightning_modules.merging.average import require_one_each
from lightning_modules.merging.base import Merged, Merging
from lightning_modules.merging.models import Models, Unit
from pipeline.errors import UsageError

if TYPE_CHECKING:
    from datamodules.batch import Batch
    from lightning_modules.merging.bench import Bench

FLOOR = 1e-6  # of the mean information: what no model knows about is averaged


class Fisher(Merging):
    """theta = sum_i w_i F_i theta_i / sum_i w_i F_i, F_i the diagonal of model i's information.

    F_i = mean_x E_y (d log p_i(y | x) / d theta)^2 over training rows, y drawn once from
    p_i(. | x). Source: Matena and Raffel 2022, "Merging models with Fisher-weighted averaging",
    section 3. Deviations: y is drawn, not gone through; of a task that states no distribution,
    such as regression, y is the row's label and -log p its loss.

    Args:
        rows: training rows of each data set, >= 1; each costs a backward pass.
        weights: w_i of each model, > 0; null: 1.
        seed: of the draws, >= 0.

    Raises:
        UsageError: an option is out of its range.
    """

    def __init__(
        self, rows: int = 256, weights: Sequence[float] | None = None, seed: int = 0
    ) -> None:
        if rows < 1:
            raise UsageError(f"rows must be >= 1, got {rows}")
        if weights is not None and not min(weights, default=0) > 0:
            raise UsageError(f"weights must be > 0, got {list(weights)}")
        self.rows = rows
        self.weights = None if weights is None else [float(weight) for weight in weights]
        self.seed = seed

    def merge(self, models: Models, bench: Bench) -> Merged:
        """Measure each model's information, and average."""
        weights = self.weights or [1.0] * len(models)
        require_one_each(weights, models)
        above: dict[str, Tensor] = {}  # sum_i w_i F_i theta_i
        below: dict[str, Tensor] = {}  # sum_i w_i F_i
        for model, weight in enumerate(weights):
            information = self.information(bench, model)
            for name, theta in bench.network.named_parameters():
                if name in information:
                    part = weight * information[name]
                    add(above, name, part * theta.detach().double())
                    add(below, name, part)
        entries = sum(part.numel() for part in below.values())
        floor = FLOOR * sum(part.sum().item() for part in below.values()) / max(entries, 1)

        def rule(unit: Unit, tensors: Sequence[Tensor], _: Tensor | None) -> Tensor:
            mean = torch.stack([tensor.double() for tensor in tensors]).mean(dim=0)
            name = next((name for name in unit.names if name in below), None)
            if name is None or not floor:
                return mean.to(tensors[0].dtype)
            found = (above[name].cpu() + floor * mean) / (below[name].cpu() + floor)
            return found.to(tensors[0].dtype)

        named = dict(zip(models.labels, weights, strict=True))
        found = {"rows": self.rows, "weights": named, "seed": self.seed}
        return Merged(models.merged(rule), found)

    def information(self, bench: Bench, model: int) -> dict[str, Tensor]:
        """Return F of one model by weight, float64; those that none of its rows reach have none."""
        bench.load_model(model)
        tasks = bench.models.tasks[model]
        network = bench.network
        weights = dict(network.named_parameters())
        found: dict[str, Tensor] = {}
        rows = 0
        with torch.random.fork_rng(devices=[]), all_trainable(network):
            torch.manual_seed(self.seed)
            for batch in bench.draw("train", tasks, self.rows, 1, self.seed):
                loss = self._surprise(bench, batch, tasks)
                if loss is None:
                    continue
                rows += 1
                gradients = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
                for name, gradient in zip(weights, gradients, strict=True):
                    if gradient is not None:
                        add(found, name, gradient.double().square())
        return {name: total / rows for name, total in found.items()}

    def _surprise(
        self, bench: Bench, batch: dict[str, Batch], tasks: Sequence[str]
    ) -> Tensor | None:
        """Return -log p of one row, over the tasks that it is labelled for."""
        (own,) = batch.values()
        wanted = [task for task in tasks if task in own.present and own.present[task].any()]
        if not wanted:
            return None
        outputs = bench.network(batch, wanted)
        found = []
        for task in wanted:
            kind = bench.module.tasks[task]
            belief = kind.belief(outputs[task])
            if belief is None:
                found.append(kind.loss(outputs[task], own.targets[task]).sum())
            else:
                found.append(-belief.log_prob(belief.sample()).sum())
        return torch.stack(found).sum()


def add(totals: dict[str, Tensor], name: str, value: Tensor) -> None:
    """Add to a sum that begins with its first value."""
    totals[name] = totals[name].add_(value) if name in totals else value


@contextmanager
def all_trainable(network: nn.Module) -> Iterator[None]:
    """Let all weights have gradients, also those that training held."""
    before = [weight.requires_grad for weight in network.parameters()]
    network.requires_grad_(True)
    try:
        yield
    finally:
        for weight, trained in zip(network.parameters(), before, strict=True):
            weight.requires_grad_(trained)

"""Averages weighted by each model's Fisher information."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from datamodules.batch import Batch
from lightning_modules.merging.average import require_weight_per_model
from lightning_modules.merging.base import MergeMethod, MergeResult
from lightning_modules.merging.evaluator import MergeEvaluator
from lightning_modules.merging.models import Models, ResultTensor
from pollinate.errors import UsageError


class Fisher(MergeMethod):
    """theta = sum_i v_i F_i theta_i / sum_i v_i F_i, F_i the diagonal of model i's information.

    F_i = mean_x E_y (d log p_i(y | x) / d theta)^2 over training rows, y drawn once from
    p_i(. | x); v_i = w_i / ||F_i||_2 over all merged weights, or w_i with ``normalize=False``: the
    less sure a model is of its answers, the larger its F, and the largest outweighs the others.
    What no model knows about, F_i = 0 of all, is averaged.
    Source: Matena and Raffel 2022, "Merging models with Fisher-weighted averaging", section 3;
    the norm is of their implementation. Deviations: y is drawn, not gone through; of a task that
    states no distribution, such as regression, y is the row's label and -log p its loss.

    Args:
        rows: training rows of each data set, >= 1; each costs a backward pass.
        weights: w_i of each model, > 0; null: 1.
        normalize: whether each model's information is divided by its norm.
        seed: of the draws, >= 0.

    Raises:
        UsageError: an option is out of its range.

    Examples:
        >>> import pollinate as po
        >>> method = po.merging.Fisher(rows=8)
        >>> models = {"first": "runs/first", "again": "runs/first"}  # runs of the same data
        >>> both = po.merge(models, method, "runs/both", overrides=["tracking=none"], quiet=True)
        >>> list(both.tasks)
        ['mood', 'stars']
    """

    def __init__(
        self,
        rows: int = 256,
        weights: Sequence[float] | None = None,
        normalize: bool = True,
        seed: int = 0,
    ) -> None:
        if rows < 1:
            raise UsageError(f"rows must be >= 1, got {rows}")
        if weights is not None and not min(weights, default=0) > 0:
            raise UsageError(f"weights must be > 0, got {list(weights)}")
        self.rows = rows
        self.weights = None if weights is None else [float(weight) for weight in weights]
        self.normalize = normalize
        self.seed = seed

    def merge(self, models: Models, evaluator: MergeEvaluator) -> MergeResult:
        weights = self.weights or [1.0] * len(models)
        require_weight_per_model(weights, models)
        merged = {name for unit in models.units if models.is_merged(unit) for name in unit.names}
        above: dict[str, Tensor] = {}  # sum_i v_i F_i theta_i
        below: dict[str, Tensor] = {}  # sum_i v_i F_i
        for model, weight in enumerate(weights):
            found = self.information(evaluator, model)
            information = {name: found[name] for name in found if name in merged}
            scale = (
                weight / (global_norm(information.values()) or 1.0) if self.normalize else weight
            )
            for name, theta in evaluator.network.named_parameters():
                if name in information:
                    part = scale * information[name]
                    add_to(above, name, part * theta.detach().double())
                    add_to(below, name, part)

        def rule(unit: ResultTensor, tensors: Sequence[Tensor], _: Tensor | None) -> Tensor:
            mean = torch.stack([tensor.double() for tensor in tensors]).mean(dim=0)
            name = next((name for name in unit.names if name in below), None)
            if name is None:
                return mean.to(tensors[0].dtype)
            known = below[name].cpu()
            return torch.where(known > 0, above[name].cpu() / known, mean).to(tensors[0].dtype)

        named = dict(zip(models.labels, weights, strict=True))
        chosen = {"normalize": self.normalize, "seed": self.seed}
        return MergeResult(models.merged(rule), {"rows": self.rows, "weights": named, **chosen})

    def information(self, evaluator: MergeEvaluator, model: int) -> dict[str, Tensor]:
        """Return F of one model by weight, float64; those that none of its rows reach have none."""
        evaluator.load_model(model)
        tasks = evaluator.models.tasks[model]
        network = evaluator.network
        weights = dict(network.named_parameters())
        found: dict[str, Tensor] = {}
        rows = 0
        with torch.random.fork_rng(devices=[]), all_requiring_grad(network):
            torch.manual_seed(self.seed)
            for batch in evaluator.draw("train", tasks, self.rows, 1, self.seed):
                loss = self._surprise(evaluator, batch, tasks)
                if loss is None:
                    continue
                rows += 1
                gradients = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
                for name, gradient in zip(weights, gradients, strict=True):
                    if gradient is not None:
                        add_to(found, name, gradient.double().square())
        return {name: total / rows for name, total in found.items()}

    def _surprise(
        self, evaluator: MergeEvaluator, batch: dict[str, Batch], tasks: Sequence[str]
    ) -> Tensor | None:
        """Return -log p of one row, over the tasks that it is labelled for."""
        (own,) = batch.values()
        wanted = [task for task in tasks if task in own.present and own.present[task].any()]
        if not wanted:
            return None
        outputs = evaluator.network(batch, wanted)
        found = []
        for task in wanted:
            kind = evaluator.module.tasks[task]
            predictive_distribution = kind.predictive_distribution(outputs[task])
            if predictive_distribution is None:
                found.append(kind.loss(outputs[task], own.targets[task]).sum())
            else:
                found.append(
                    -predictive_distribution.log_prob(predictive_distribution.sample()).sum()
                )
        return torch.stack(found).sum()


def global_norm(tensors: Iterable[Tensor]) -> float:
    """Return the L2 norm of all of them together."""
    return math.sqrt(sum(tensor.square().sum().item() for tensor in tensors))


def add_to(totals: dict[str, Tensor], name: str, value: Tensor) -> None:
    """Add to a sum that begins with its first value."""
    totals[name] = totals[name].add_(value) if name in totals else value


@contextmanager
def all_requiring_grad(network: nn.Module) -> Iterator[None]:
    """Let all weights have gradients, also those that training held."""
    before = [weight.requires_grad for weight in network.parameters()]
    network.requires_grad_(True)
    try:
        yield
    finally:
        for weight, trained in zip(network.parameters(), before, strict=True):
            weight.requires_grad_(trained)

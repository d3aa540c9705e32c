"""RegMean: linear layers whose outputs are nearest to those of all models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lightning_modules.merging.base import MergeMethod, MergeResult
from lightning_modules.merging.evaluator import MergeEvaluator
from lightning_modules.merging.models import Models, ResultTensor, weighted_mean
from pollinate.errors import UsageError

CUTOFF = 1e-12  # eigenvalues of correlations below it: directions in which no row has been
BATCH_SIZE = 64  # rows that go through a network at a time


class RegMean(MergeMethod):
    """W = (sum_i G_i)^-1 sum_i G_i W_i, G_i = X_i^T X_i of a linear layer's inputs X_i: (rows, in).

    In directions in which no row has been, weights are averaged. Off the diagonal G_i is multiplied
    by ``shrink``. What is no weight of a linear layer is averaged. Source: Jin et al. 2023,
    "Dataless knowledge fusion by merging weights of language models", equation 2 and section 3.2.

    Args:
        rows: training rows of each data set that each model sees, >= 1.
        shrink: alpha, in [0, 1].
        seed: of the draws, >= 0.

    Raises:
        UsageError: an option is out of its range.

    Examples:
        >>> import pollinate as po
        >>> method = po.merging.RegMean(rows=64, shrink=0.9)
        >>> models = {"first": "runs/first", "again": "runs/first"}  # runs of the same data
        >>> both = po.merge(models, method, "runs/both", overrides=["tracking=none"], quiet=True)
        >>> list(both.tasks)
        ['mood', 'stars']
    """

    def __init__(self, rows: int = 1024, shrink: float = 0.9, seed: int = 0) -> None:
        if rows < 1:
            raise UsageError(f"rows must be >= 1, got {rows}")
        if not 0 <= shrink <= 1:
            raise UsageError(f"shrink must be in [0, 1], got {shrink}")
        self.rows = rows
        self.shrink = shrink
        self.seed = seed

    def merge(self, models: Models, evaluator: MergeEvaluator) -> MergeResult:
        products = [self._products(evaluator, model) for model in range(len(models))]

        def rule(unit: ResultTensor, tensors: Sequence[Tensor], _: Tensor | None) -> Tensor:
            name = next((n for n in unit.names if any(n in own for own in products)), None)
            if name is None:
                return weighted_mean(tensors, [1 / len(tensors)] * len(tensors))
            known = [products[owner].get(name) for owner in unit.owners]
            width = tensors[0].shape[1]
            grams = [
                torch.zeros(width, width, dtype=torch.float64) if one is None else one
                for one in known
            ]
            return regression_mean(tensors, grams).to(tensors[0].dtype)

        found = {"rows": self.rows, "shrink": self.shrink, "seed": self.seed}
        return MergeResult(models.merged(rule), found)

    def _products(self, evaluator: MergeEvaluator, model: int) -> dict[str, Tensor]:
        """Return {name of a linear layer's weight: G (in, in)} of one model's rows."""
        evaluator.load_model(model)
        tasks = evaluator.models.tasks[model]
        found: dict[str, Tensor] = {}
        with accumulate_grams(evaluator.network, found), torch.inference_mode():
            for batch in evaluator.draw("train", tasks, self.rows, BATCH_SIZE, self.seed):
                ((dataset, _),) = batch.items()
                evaluator.network(
                    batch, [t for t in tasks if dataset in evaluator.network.routes[t]]
                )
        return {name: shrink_off_diagonal(gram.cpu(), self.shrink) for name, gram in found.items()}


def regression_mean(weights: Sequence[Tensor], grams: Sequence[Tensor]) -> Tensor:
    """Return the weight that minimises sum_i |X_i W - X_i W_i|^2, near the mean of all W_i.

    With D the lengths of the inputs' columns, sum_i G_i = D C D, and W is the mean plus
    D^-1 C^+ D^-1 sum_i G_i (W_i - mean): the scale of an input doesn't matter.

    Args:
        weights: (out, in) each, as ``nn.Linear`` has them.
        grams: (in, in) float64 each.
    """
    total = torch.stack(list(grams)).sum(dim=0)
    mean = torch.stack([weight.double() for weight in weights]).mean(dim=0)
    pairs = zip(grams, weights, strict=True)
    missing = torch.stack([gram @ (one.double() - mean).T for gram, one in pairs]).sum(dim=0)
    lengths = total.diagonal().sqrt()
    scale = torch.where(lengths > 0, 1 / lengths, 0)
    correlations = scale[:, None] * total * scale
    inverse = torch.linalg.pinv(correlations, rtol=CUTOFF, hermitian=True)
    found: Tensor = mean + (scale[:, None] * (inverse @ (scale[:, None] * missing))).T
    return found.contiguous()


def shrink_off_diagonal(gram: Tensor, factor: float) -> Tensor:
    """Return the matrix with what is off its diagonal times a factor."""
    return factor * gram + (1 - factor) * gram.diagonal().diag()


@contextmanager
def accumulate_grams(network: nn.Module, found: dict[str, Tensor]) -> Iterator[None]:
    """Add up X^T X of all linear layers' inputs X, (rows, in), in ``found``."""

    def look(name: str, layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        rows = inputs[0].detach().reshape(-1, inputs[0].shape[-1]).double()
        gram = rows.T @ rows
        found[name] = found[name] + gram if name in found else gram

    hooks = [
        layer.register_forward_pre_hook(partial(look, f"{name}.weight"))
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Linear)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()

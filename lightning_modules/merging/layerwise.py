"""Coefficients of each layer, searched on validation data."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from lightning_modules.merging.average import average
from lightning_modules.merging.base import MergeMethod, MergeResult
from lightning_modules.merging.evaluator import MergeEvaluator
from lightning_modules.merging.models import Models, ResultTensor, owner_weights
from lightning_modules.state_dicts import weighted_sum
from pollinate.errors import UsageError


class Layerwise(MergeMethod):
    """theta_l = sum_i c_li theta_i, each layer's c_l >= 0 of sum 1 searched by coordinates.

    From c_l = 1 / k on, round r tries, layer by layer and model by model, the step c_l <-
    (1 - d) c_l + d e_i with d = step / 2^r, and keeps it if the validation score rises.

    Args:
        step: d of the first round, in (0, 1].
        rounds: through all layers, >= 1; each costs layers x models validations.

    Raises:
        UsageError: an option is out of its range.

    Examples:
        >>> import torch, pollinate as po
        >>> a, b = {"w": torch.tensor(1.0)}, {"w": torch.tensor(5.0)}
        >>> def score(state):  # in a run, the validation score
        ...     return -abs(state["w"].item() - 2)
        >>> po.merging.Layerwise().merge_state_dicts({"a": a, "b": b}, score=score).state
        {'w': tensor(2.)}
    """

    def __init__(self, step: float = 0.5, rounds: int = 2) -> None:
        if not 0 < step <= 1:
            raise UsageError(f"step must be in (0, 1], got {step}")
        if rounds < 1:
            raise UsageError(f"rounds must be >= 1, got {rounds}")
        self.step = step
        self.rounds = rounds

    def merge(self, models: Models, evaluator: MergeEvaluator) -> MergeResult:
        count = len(models)
        layers: dict[str, list[ResultTensor]] = {}
        for unit in models.units:
            if models.is_merged(unit):
                layers.setdefault(layer_of(unit.name), []).append(unit)
        chosen = {layer: [1 / count] * count for layer in layers}
        state = average(models, [1.0] * count)
        start = best = evaluator.score(state)
        for number in range(self.rounds):
            for layer, units in layers.items():
                for model in range(count):
                    tried = step_towards(chosen[layer], model, self.step / 2**number)
                    candidate = state | merge_layer(models, units, tried)
                    score = evaluator.score(candidate)
                    if score > best:
                        chosen[layer], state, best = tried, candidate, score
        named = {n: dict(zip(models.labels, c, strict=True)) for n, c in chosen.items()}
        found = {"layers": named, "validation_score": best, "uniform": start}
        return MergeResult(state, found)


def step_towards(coefficients: Sequence[float], model: int, step: float) -> list[float]:
    """Return (1 - d) c + d e_i."""
    return [(1 - step) * c + step * (place == model) for place, c in enumerate(coefficients)]


def merge_layer(
    models: Models, units: Sequence[ResultTensor], coefficients: Sequence[float]
) -> dict[str, Tensor]:
    """Return some tensors' sums by the coefficients of the models that have them."""
    return models.merged(
        lambda unit, tensors, _: weighted_sum(tensors, owner_weights(unit, coefficients)),
        units=units,
    )


def layer_of(name: str) -> str:
    """Return the block that a tensor is in, up to its first number: ``trunk.blocks.0``.

    Without a number it is what the tensor is called without its last part: ``trunk.norm``.
    """
    parts = name.split(".")
    for place, part in enumerate(parts):
        if part.isdigit():
            return ".".join(parts[: place + 1])
    return ".".join(parts[:-1]) or name

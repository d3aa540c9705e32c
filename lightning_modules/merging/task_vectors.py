"""Task vectors: what models learnt since a common start, added up and put on it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from lightning_modules.merging.base import MergeMethod, MergeResult
from lightning_modules.merging.evaluator import MergeEvaluator
from lightning_modules.merging.models import Models, ResultTensor
from pollinate.errors import UsageError

CHUNK_SIZE = 1 << 16  # entries of a tensor that are worked on at a time: few enough for the cache


def task_vector(model: Tensor, start: Tensor) -> Tensor:
    """Return tau = theta - theta_0 in 64 bits: exact for weights of 32 bits of similar size."""
    return model.double() - start.double()


class TaskVectorMerge(MergeMethod):
    """theta = theta_0 + s f(tau_1, ..., tau_k), tau_i = theta_i - theta_0, entry by entry.

    Buffers, such as BatchNorm's statistics, are no part of a task vector: they are averaged.

    Args:
        scale: s; of several, the one that scores best on validation data, the first of the best.

    Examples:
        >>> import torch, pollinate as po
        >>> class Largest(po.merging.TaskVectorMerge):
        ...     def combine(self, taus, unit, first):
        ...         return torch.stack(list(taus)).max(dim=0).values
        >>> base = {"w": torch.tensor([1.0, 1.0])}
        >>> a, b = {"w": torch.tensor([3.0, 1.0])}, {"w": torch.tensor([1.0, 2.0])}
        >>> Largest(scale=0.5).merge_state_dicts({"a": a, "b": b}, base).state
        {'w': tensor([2.0000, 1.5000])}
    """

    needs_base: ClassVar[bool] = True

    def __init__(self, scale: float | Sequence[float]) -> None:
        scales = [scale] if isinstance(scale, int | float) else list(scale)
        if not scales:
            raise UsageError("scale must be a number or several, got none")
        self.scales = [float(one) for one in scales]

    @abstractmethod
    def combine(self, taus: Sequence[Tensor], unit: ResultTensor, first: int) -> Tensor:
        """Return f(tau_1, ..., tau_k).

        Args:
            taus: (n,) float64, of the models that have the tensor.
            unit: of which tensor they are entries.
            first: place of the first of the n entries in it.
        """

    def prepare(self, models: Models) -> None:
        """Look at all models before any tensor is merged."""

    def details(self, models: Models) -> dict[str, Any]:
        """Return what else the result depends on."""
        return {}

    def merge(self, models: Models, evaluator: MergeEvaluator) -> MergeResult:
        self.prepare(models)
        tried: dict[float, float] = {}
        if len(self.scales) > 1:
            tried = {scale: evaluator.score(self.at(models, scale)) for scale in self.scales}
        scale = max(tried, key=lambda one: tried[one]) if tried else self.scales[0]
        found: dict[str, Any] = {"scale": scale, **self.details(models)}
        if tried:
            found["validation_score"] = {str(one): score for one, score in tried.items()}
        return MergeResult(self.at(models, scale), found)

    def at(self, models: Models, scale: float) -> dict[str, Tensor]:
        """Return the merged model for one s."""

        def rule(unit: ResultTensor, tensors: Sequence[Tensor], start: Tensor | None) -> Tensor:
            assert start is not None
            return self.moved(unit, tensors, start, scale)

        return models.merged(rule)

    def moved(
        self, unit: ResultTensor, tensors: Sequence[Tensor], start: Tensor, scale: float
    ) -> Tensor:
        """Return theta_0 + s f(tau) of one tensor."""
        found = torch.empty(start.numel(), dtype=tensors[0].dtype)
        flat, models = start.reshape(-1), [tensor.reshape(-1) for tensor in tensors]
        for first in range(0, len(flat), CHUNK_SIZE):
            piece = slice(first, first + CHUNK_SIZE)
            own = flat[piece].double()
            taus = [task_vector(model[piece], own) for model in models]
            found[piece] = own + scale * self.combine(taus, unit, first)
        return found.reshape(start.shape)

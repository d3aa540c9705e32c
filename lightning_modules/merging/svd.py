"""Adapters of a wanted rank by singular values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from lightning_modules.merging.adapter_merge import (
    OTHER_BASE,
    AdapterMerge,
    SharedAdapterMerge,
    is_decomposed,
    shared_tuning,
)
from lightning_modules.merging.adapters import EncoderAdapters
from lightning_modules.merging.base import MergeMethod, MergeResult, check_method
from lightning_modules.merging.evaluator import MergeEvaluator
from lightning_modules.merging.models import Models
from lightning_modules.state_dicts import StateDict
from lightning_modules.task_network import CombinesNetworks
from lightning_modules.tuning.adapted_layers import (
    AdaptedLayer,
    as_matrix,
    concatenated,
    truncated,
    truncated_change,
)
from lightning_modules.tuning.peft_adapters import LowRankTuning
from pollinate.errors import UsageError

FROZEN_BASE = "the frozen weights"


class TruncatedSVD(SharedAdapterMerge):
    """B A = [sum_i w_i (W_i - W)]_r, the nearest of rank r: B = U S^1/2, A = S^1/2 V^T.

    U S V^T are the leading singular vectors and values of the sum, of whose thin factors they are
    found without the dense matrix. The weights W_i of adapters by DoRA differ from W by more than
    factors, so that dense matrices are decomposed. With ``method``, [W' - W]_r of the weights W'
    that another method makes, such as TIES. Source: Eckart and Young 1936, theorem 1.

    Args:
        rank: r of the result, at most, >= 1.
        weights: w_i of each model; null: 1 / k of the k models that have the encoder.
        method: makes whole weights, in place of the weighted sum; null: none.

    Raises:
        UsageError: the rank is below 1, or the method has no such weights.

    Examples:
        >>> import torch, pollinate as po
        >>> def adapter(*entries):
        ...     up = torch.diag(torch.tensor(entries))
        ...     factors = {"q.lora_A.weight": torch.eye(2), "q.lora_B.weight": up}
        ...     return po.tuning.PeftAdapter(rank=2, alpha=2.0, dropout=0.0, weights=factors)
        >>> found = po.merging.TruncatedSVD(rank=1, weights=[1, 1]).merge_adapters(
        ...     {"a": adapter(3.0, 0.0), "b": adapter(1.0, 2.0)}
        ... )
        >>> found.weights["q.lora_B.weight"] @ found.weights["q.lora_A.weight"]  # of diag(4, 2)
        tensor([[4., 0.],
                [0., 0.]])
    """

    def __init__(
        self,
        rank: int = 8,
        weights: Sequence[float] | None = None,
        method: MergeMethod | None = None,
    ) -> None:
        super().__init__(weights)
        if rank < 1:
            raise UsageError(f"rank must be >= 1, got {rank}")
        if method is not None and weights is not None:
            raise UsageError("weights have no effect beside method, which has its own options")
        if isinstance(method, AdapterMerge | CombinesNetworks):
            raise UsageError(
                f"method must make whole weights, which {type(method).__name__} doesn't; use ties, "
                "say"
            )
        self.rank = rank
        self.method = method

    def tuning(self, adapters: Sequence[EncoderAdapters]) -> LowRankTuning:
        for one in adapters:
            for name, layer in one.shared.items():
                self._check_rank(layer, name)
        largest = sum(one.rank for one in adapters)
        thin = self.method is None and not is_decomposed(adapters)
        return shared_tuning(adapters, min(self.rank, largest) if thin else self.rank, False)

    def merge(self, models: Models, evaluator: MergeEvaluator) -> MergeResult:
        if self.method is None:
            return super().merge(models, evaluator)
        base = FROZEN_BASE if self.method.needs_base else None
        check_method(self.method, type(self.method).__name__, models.labels, base)
        models.check_frozen(OTHER_BASE, all_models=True)
        whole = self.method.merge(models.folded(models.frozen if base else None), evaluator)
        frozen = models.frozen()

        def cut(_: Models, modality: str, state: StateDict) -> dict[str, dict[str, AdaptedLayer]]:
            has = [own[modality] for own in models.adapters if modality in own]
            layers = {name: layer for one in has for name, layer in one.shared.items()}
            return {
                "all": {
                    name: self._nearest(whole.state[name], state[name], layer)
                    for name, layer in layers.items()
                }
            }

        found = self.beside(models, whole.state | frozen, cut)
        return MergeResult(found.state, {**whole.coefficients, "rank": self.rank}, found.adapters)

    def combine(
        self, layers: Sequence[AdaptedLayer], weights: Sequence[float], frozen: Tensor | None
    ) -> AdaptedLayer:
        whole = concatenated(layers, weights)
        self._check_rank(whole, "a layer")
        rank = min(self.rank, whole.rank) if whole.gain is None else self.rank
        return truncated(whole, frozen, rank)

    def coefficients(self, models: Models) -> dict[str, Any]:
        return {**super().coefficients(models), "rank": self.rank}

    def _nearest(self, weight: Tensor, frozen: Tensor, like: AdaptedLayer) -> AdaptedLayer:
        """Return the adapter that is nearest to a weight's difference from the frozen one."""
        pair = [as_matrix(one, like.transposed).double() for one in (weight, frozen)]
        return truncated_change(pair[0] - pair[1], like.down, like.transposed, self.rank)

    def _check_rank(self, layer: AdaptedLayer, name: str) -> None:
        sizes = len(layer.up), layer.down[0].numel()
        if self.rank > min(sizes):
            raise UsageError(
                f"rank must be <= {min(sizes)}, that of {name}, {sizes[0]} x {sizes[1]}, got "
                f"{self.rank}; without a limit use method=adapter_concat, or whole weights: "
                "method=average"
            )

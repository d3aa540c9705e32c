"""Exact concatenation of adapters."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from lightning_modules.merging.adapter_merge import (
    SharedAdapterMerge,
    is_decomposed,
    shared_tuning,
)
from lightning_modules.merging.adapters import EncoderAdapters
from lightning_modules.tuning.adapted_layers import AdaptedLayer, concatenated
from lightning_modules.tuning.peft_adapters import LowRankTuning


class AdapterConcat(SharedAdapterMerge):
    """B A = sum_i w_i B_i A_i, exactly: A = [A_1; ...; A_k], B = [w_1 B_1, ..., w_k B_k].

    The rank is the sum of the models' ranks, the scale 1. Adapters by DoRA, whose weights are
    diag(g_i) W + B_i A_i with g = m / ||V||, give one by DoRA with g = 1 + sum_i w_i (g_i - 1): by
    m = g ||W + diag(g)^-1 B A||, and B divided by g. A negative w_i takes away what a model learnt.
    Source: the sum of task vectors of Ilharco et al. 2023, "Editing models with task arithmetic",
    of adapters as Huang et al. 2024, "LoraHub", add them up, but of products, not of factors.

    Args:
        weights: w_i of each model; null: 1 / k of the k models that have the encoder.

    Examples:
        >>> import torch, pollinate as po
        >>> def adapter(rank):
        ...     down, up = torch.ones(rank, 2), torch.ones(3, rank)
        ...     weights = {"q.lora_A.weight": down, "q.lora_B.weight": up}
        ...     return po.tuning.PeftAdapter(rank, 1.0, 0.0, weights)
        >>> found = po.merging.AdapterConcat().merge_adapters({"a": adapter(1), "b": adapter(3)})
        >>> found.rank, found.alpha
        (4, 4.0)
        >>> found.weights["q.lora_B.weight"] @ found.weights["q.lora_A.weight"]
        tensor([[1., 1.],
                [1., 1.],
                [1., 1.]])
    """

    def tuning(self, adapters: Sequence[EncoderAdapters]) -> LowRankTuning:
        rank = sum(one.rank for one in adapters)
        return shared_tuning(adapters, rank, is_decomposed(adapters))

    def combine(
        self, layers: Sequence[AdaptedLayer], weights: Sequence[float], frozen: Tensor | None
    ) -> AdaptedLayer:
        return concatenated(layers, weights)

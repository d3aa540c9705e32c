"""Merges whose result has adapters, beside the frozen weights that all models share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn

from torch import Tensor

from lightning_modules.merging.adapters import WEIGHT, EncoderAdapters
from lightning_modules.merging.base import MergeMethod, MergeResult
from lightning_modules.merging.evaluator import MergeEvaluator
from lightning_modules.merging.models import Models, owner_weights, weighted_mean
from lightning_modules.state_dicts import StateDict
from lightning_modules.tuning.adapted_layers import AdaptedLayer
from lightning_modules.tuning.base import PeftAdapter
from lightning_modules.tuning.dora import DoRA
from lightning_modules.tuning.lora import LoRA
from lightning_modules.tuning.peft_adapters import LowRankTuning
from pollinate.errors import UsageError

LayerMerge = Callable[[Models, str, StateDict], Mapping[str, Mapping[str, AdaptedLayer]]]
OTHER_BASE = (
    "let all models start from one pre-trained model, or merge their whole weights: method=average"
)


class AdapterMerge(MergeMethod):
    """W + f(W_1 - W, ..., W_k - W) with f as an adapter; W is frozen, and the same in all models.

    A model without an adapter on a layer has W_i = W there. What else was trained, trunk,
    projections and heads, is averaged by the weights above 0.

    Args:
        weights: w_i of each model; null: 1 / k of the k models that have the encoder.

    Examples:
        >>> import torch, pollinate as po
        >>> method = po.merging.AdapterConcat(weights=[1, -1])
        >>> isinstance(method, po.merging.AdapterMerge)
        True
        >>> a = {"q.lora_A.weight": torch.ones(1, 2), "q.lora_B.weight": torch.ones(2, 1)}
        >>> one = po.tuning.PeftAdapter(rank=1, alpha=2.0, dropout=0.0, weights=a)
        >>> found = method.merge_adapters({"a": one, "b": one})  # what is left of a without a
        >>> found.rank, found.weights["q.lora_B.weight"] @ found.weights["q.lora_A.weight"]
        (2, tensor([[0., 0.],
                [0., 0.]]))
    """

    def __init__(self, weights: Sequence[float] | None = None) -> None:
        self.weights = None if weights is None else [float(weight) for weight in weights]

    @abstractmethod
    def tuning(self, adapters: Sequence[EncoderAdapters]) -> LowRankTuning:
        """Return what kind of adapters the result's encoder has.

        Args:
            adapters: of the models that have some on it, >= 1.

        Raises:
            UsageError: there is no such kind.
        """

    @abstractmethod
    def merge_layers(
        self, models: Models, modality: str, state: StateDict
    ) -> dict[str, dict[str, AdaptedLayer]]:
        """Return {task: {name of a layer's weight: the result's factors}}.

        Args:
            models: of which some have adapters.
            modality: of the encoder.
            state: {name of a weight of the network: that without adapters}.
        """

    def merge(self, models: Models, evaluator: MergeEvaluator) -> MergeResult:
        """Keep the adapters' products, and average what else was trained.

        Raises:
            UsageError: the models' frozen weights differ, or there isn't one weight per model.
        """
        models.check_frozen(OTHER_BASE, all_models=True)
        shares = [max(share, 0.0) for share in self.shares(models.labels)]
        state = models.merged(
            lambda unit, tensors, _: weighted_mean(tensors, owner_weights(unit, shares)), shares
        )
        return self.beside(models, state, self.merge_layers)

    def beside(self, models: Models, state: dict[str, Tensor], layers: LayerMerge) -> MergeResult:
        """Return a result with adapters.

        Args:
            models: of which some have adapters.
            state: {name: tensor} without adapters.
            layers: as ``merge_layers``.
        """
        adapters: dict[str, dict[str, PeftAdapter]] = {}
        for modality in sorted({name for own in models.adapters for name in own}):
            has = [own[modality] for own in models.adapters if modality in own]
            kind, part = self.tuning(has), has[0].part
            frozen = {n.removeprefix(part): state[n] for one in has for n in one.layers}
            adapters[modality] = {
                task: PeftAdapter.of(
                    {layer_name(name, part): layer for name, layer in found.items()},
                    frozen,
                    kind.dropout,
                    kind.rank,
                )
                for task, found in layers(models, modality, state).items()
            }
        return MergeResult(state, self.coefficients(models), adapters)

    def coefficients(self, models: Models) -> dict[str, Any]:
        """Return how the result was made, as plain values."""
        return {"weights": dict(zip(models.labels, self.shares(models.labels), strict=True))}

    def shares(self, labels: Sequence[str]) -> list[float]:
        """Return w_i of each model.

        Raises:
            UsageError: there isn't one for each.
        """
        if self.weights is None:
            return [1 / len(labels)] * len(labels)
        if len(self.weights) != len(labels):
            raise UsageError(
                f"weights must be one for each of the {len(labels)} models ({', '.join(labels)}), "
                f"got {len(self.weights)}"
            )
        return self.weights

    def shares_of(self, models: Models, owners: Sequence[int]) -> list[float]:
        """Return w_i of the models that have a weight."""
        if self.weights is None:
            return [1 / len(owners)] * len(owners)
        return [self.weights[owner] for owner in owners]

    def merge_state_dicts(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse: what in a state dict is an adapter, and of which scale, isn't written in it.

        Raises:
            UsageError: always.
        """
        raise UsageError(
            f"{type(self).__name__} merges adapters, which state dicts don't tell from other "
            "weights; merge runs, po.merge, or folders of peft: merge_adapters"
        )


class SharedAdapterMerge(AdapterMerge):
    """W + f(...) as one adapter for all tasks.

    Args:
        weights: w_i of each model; null: 1 / k of the k models that have the encoder.

    Examples:
        >>> import pollinate as po
        >>> issubclass(po.merging.TruncatedSVD, po.merging.SharedAdapterMerge)
        True
    """

    @abstractmethod
    def combine(
        self, layers: Sequence[AdaptedLayer], weights: Sequence[float], frozen: Tensor | None
    ) -> AdaptedLayer:
        """Return the result's factors of one layer.

        Args:
            layers: of the models that have an adapter there, >= 1.
            weights: w_i of these.
            frozen: W as the layer holds it; None: it isn't known, and no layer needs it.
        """

    def merge_layers(
        self, models: Models, modality: str, state: StateDict
    ) -> dict[str, dict[str, AdaptedLayer]]:
        owners = {name: unit.owners for unit in models.units for name in unit.names}
        known = {
            place: own[modality].shared
            for place, own in enumerate(models.adapters)
            if modality in own
        }
        found = {}
        for name in dict.fromkeys(name for layers in known.values() for name in layers):
            shares = dict(zip(owners[name], self.shares_of(models, owners[name]), strict=True))
            has = [place for place, layers in known.items() if name in layers]
            layers, weights = [known[i][name] for i in has], [shares[i] for i in has]
            found[name] = self.combine(layers, weights, state[name])
        return {"all": found}

    def merge_adapters(
        self, models: Mapping[str, PeftAdapter], base: StateDict | None = None
    ) -> PeftAdapter:
        """Merge adapters without runs.

        Args:
            models: {name: its adapter}, of one frozen model.
            base: {``LAYER.weight``: W} of that, for adapters by DoRA.

        Raises:
            UsageError: there isn't one weight per model, DoRA lacks its W, or shapes differ.
        """
        shares = self.shares(list(models))
        frozen = {} if base is None else base
        for label, one in models.items():
            missing = [n for n in one.layers if one.decomposed and f"{n}{WEIGHT}" not in frozen]
            if missing:
                raise UsageError(
                    f"{label} is an adapter by DoRA, whose lengths say nothing without the weight "
                    f"{missing[0]}{WEIGHT} that they belong to; give base, the model's state dict"
                )
        found = {}
        for name in dict.fromkeys(name for one in models.values() for name in one.layers):
            weight = frozen.get(f"{name}{WEIGHT}")
            has = [
                (share, one.layer(name, weight))
                for share, one in zip(shares, models.values(), strict=True)
                if name in one.layers
            ]
            require_one_shape(name, [layer for _, layer in has])
            found[name] = self.combine([one for _, one in has], [w for w, _ in has], weight)
        return PeftAdapter.of(found, frozen, next(iter(models.values())).dropout)


def require_one_shape(name: str, layers: Sequence[AdaptedLayer]) -> None:
    """Check that adapters are for one layer."""
    shapes = dict.fromkeys((len(one.up), *one.down.shape[1:]) for one in layers)
    if len(shapes) > 1:
        raise UsageError(
            f"adapters of {name} must be for a layer of one shape, (out, in), got "
            f"{' and '.join(str(shape) for shape in shapes)}; give adapters of one model"
        )


def layer_name(weight: str, part: str) -> str:
    """Return the name in the backbone of the layer of a weight in the network."""
    return weight.removeprefix(part).removesuffix(WEIGHT)


def shared_tuning(
    adapters: Sequence[EncoderAdapters], rank: int, decomposed: bool
) -> LowRankTuning:
    """Return one adapter for all tasks, of scale 1 on the layers of all models' adapters."""
    kind: Callable[..., LowRankTuning] = DoRA if decomposed else LoRA
    return kind(rank, float(rank), adapters[0].tuning.dropout, common_targets(adapters))


def common_targets(adapters: Iterable[EncoderAdapters]) -> Sequence[str] | None:
    """Return the layers that have an adapter in any model: as all models say it, or by name."""
    given = [one.tuning.targets for one in adapters]
    if all(targets == given[0] for targets in given):
        return given[0]
    names = {layer_name(name, one.part) for one in adapters for name in one.layers}
    return sorted(names)


def is_decomposed(adapters: Iterable[EncoderAdapters]) -> bool:
    """Say whether any adapter has lengths of its own."""
    layers = (
        one for own in adapters for by_task in own.layers.values() for one in by_task.values()
    )
    return any(layer.gain is not None for layer in layers)

"""Low-rank adapters on a backbone's layers: what their methods have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

from torch import Tensor, nn

from lightning_modules.encoders.base import Encoder
from lightning_modules.tuning.adapted_layers import AdaptedLayer, as_matrix
from lightning_modules.tuning.base import PeftAdapter, Tuning
from lightning_modules.tuning.routed_adapters import is_transposed
from pollinate.errors import UsageError
from pollinate.requirements import require
from pollinate.suggest import listing


class LowRankTuning(Tuning):
    """W + (alpha / r) B A on layers of the backbone, of which W is frozen.

    Args:
        rank: r, >= 1.
        alpha: scale, > 0.
        dropout: share of an adapter's inputs left out in training, in [0, 1).
        targets: last parts of layers' names; None: all linear layers of the blocks, or all
            convolutions, where there are no linear layers.

    Raises:
        UsageError: a value is out of range.

    Examples:
        >>> import pollinate as po
        >>> encoder = po.encoders.TransformersText(85, dim=8, model="text_model", weights=False)
        >>> tuning = po.tuning.TaskLoRA(rank=4, targets=["query", "value"])
        >>> isinstance(tuning, po.tuning.LowRankTuning)
        True
        >>> tuning.apply(encoder, ["mood"])
        >>> sum(one.numel() for one in encoder.network.parameters() if one.requires_grad)
        512
    """

    adapts: ClassVar[bool] = True

    def __init__(
        self,
        rank: int = 8,
        alpha: float = 16.0,
        dropout: float = 0.0,
        targets: Sequence[str] | None = None,
    ) -> None:
        if rank < 1 or not 0 <= dropout < 1:
            raise UsageError(
                f"tune.rank must be >= 1 and dropout in [0, 1), got {rank} and {dropout}"
            )
        if alpha <= 0:
            raise UsageError(f"tune.alpha must be > 0, got {alpha}; frozen trains no adapter")
        self.rank, self.alpha, self.dropout, self.targets = rank, alpha, dropout, targets

    @abstractmethod
    def bare_names(self, encoder: Encoder) -> dict[str, str]:
        """Return {name of a weight without adapters: its name beside them} of the backbone."""

    @abstractmethod
    def put(self, encoder: Encoder, adapters: Mapping[str, PeftAdapter]) -> None:
        """Let the encoder's adapters be others, of the same rank; its frozen weights stay.

        Args:
            encoder: to which this was applied.
            adapters: {task: its adapter}; layers that it lacks are as without one.
        """

    def layers(self, encoder: Encoder, task: str) -> dict[str, AdaptedLayer]:
        """Return {name of a layer: the factors of its weight} as a task sees them."""
        state, names = encoder.tuned_part().state_dict(), self.bare_names(encoder)
        adapter = self.adapter(encoder, task)
        return {n: adapter.layer(n, state[names[f"{n}.weight"]]) for n in adapter.layers}

    def merged(self, encoder: Encoder, task: str) -> dict[str, Tensor]:
        state = encoder.tuned_part().state_dict()
        weights = {bare: state[name] for bare, name in self.bare_names(encoder).items()}
        for name, layer in self.layers(encoder, task).items():
            weights[f"{name}.weight"] = layer.weight(weights[f"{name}.weight"])
        return weights


class PeftTuning(LowRankTuning):
    """Adapters that all tasks share, by the package peft.

    Attributes:
        decomposed: whether lengths of W's columns are learnt apart (DoRA).

    Examples:
        >>> import pollinate as po
        >>> encoder = po.encoders.TransformersText(85, dim=8, model="text_model", weights=False)
        >>> tuning = po.tuning.LoRA(rank=4)
        >>> isinstance(tuning, po.tuning.PeftTuning)
        True
        >>> tuning.apply(encoder, ["mood", "stars"])
        >>> tuning.adapter(encoder, "mood").rank
        4
    """

    needs: ClassVar[tuple[str, ...]] = ("peft",)
    decomposed: ClassVar[bool]

    def apply(self, encoder: Encoder, tasks: Sequence[str]) -> None:
        """Put the adapters on the backbone's layers, in place, and freeze all else of it.

        Raises:
            UsageError: peft isn't installed or refuses, or a target fits no layer.
        """
        require("peft", "peft")
        names = target_layers(encoder, self.targets)
        from peft import LoraConfig, inject_adapter_in_model

        config = LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=names,
            use_dora=self.decomposed,
        )
        try:
            inject_adapter_in_model(config, encoder.tuned_part())
        except ValueError as error:  # it knows networks that go past some layers' adapters
            raise UsageError(f"tune.targets: peft refuses them: {error}") from error
        encoder.train(encoder.training)

    def adapter(self, encoder: Encoder, task: str) -> PeftAdapter:
        """Return the adapter, which is the same for all tasks."""
        state = encoder.tuned_part().state_dict()
        weights = {peft_weight_name(name): v for name, v in state.items() if ".lora_" in name}
        first = next(iter(weights)).partition(".lora_")[0]
        transposed = is_transposed(encoder.tuned_part().get_submodule(f"{first}.base_layer"))
        return PeftAdapter(
            self.rank, self.alpha, self.dropout, weights, transposed, self.decomposed
        )

    def bare_names(self, encoder: Encoder) -> dict[str, str]:
        state = encoder.tuned_part().state_dict()
        return {k.replace(".base_layer.", "."): k for k in state if ".lora_" not in k}

    def put(self, encoder: Encoder, adapters: Mapping[str, PeftAdapter]) -> None:
        """Let the adapter be another, of the same rank and kind: {any task: that}."""
        state, names = encoder.tuned_part().state_dict(), self.bare_names(encoder)
        given = next(iter(adapters.values()))
        scale = (given.alpha / given.rank) / (self.alpha / self.rank)
        for name, value in state.items():
            layer, _, part = name.partition(".lora_")
            if not part:
                continue
            found = given.weights.get(peft_weight_name(name))
            if found is not None:
                value.copy_(scale * found if part.startswith("B") else found)
            elif part.startswith("magnitude"):
                transposed = is_transposed(
                    encoder.tuned_part().get_submodule(f"{layer}.base_layer")
                )
                weight = as_matrix(state[names[f"{layer}.weight"]], transposed)
                value.copy_(weight.norm(dim=1).reshape(value.shape))
            else:
                value.zero_()


def peft_weight_name(name: str) -> str:
    """Return the name in a file of peft's of a weight in a network of peft's."""
    if ".lora_magnitude_vector" in name:
        return name.removesuffix(".default.weight")
    return name.replace(".default.", ".")


def target_layers(encoder: Encoder, targets: Sequence[str] | None) -> list[str]:
    """Return the names of the layers that get adapters.

    Raises:
        UsageError: a target fits none; the message lists what there is.
    """
    layers = adaptable_layers(encoder)
    if not layers:
        raise UsageError("adapters need linear layers or convolutions in blocks, there are none")
    if targets is None:
        return layers
    absent = [
        target for target in targets if not any(matches_target(name, target) for name in layers)
    ]
    if absent or not targets:
        raise UsageError(
            f"tune.targets must name layers of the backbone's blocks, got {listing(absent)}; there "
            f"are {listing(layer_kinds(layers))}. What is put on the backbone, projection and "
            "heads, trains without adapters"
        )
    return [name for name in layers if any(matches_target(name, target) for target in targets)]


def adaptable_layers(encoder: Encoder) -> list[str]:
    """Return the names of the linear layers of the blocks; of the convolutions, if there are none.

    The embedding of patches, which some networks call by a linear layer's name, is in no block.
    """
    inside = {id(p) for group in encoder.tuned_groups()[1:] for p in group}
    found: dict[int, list[str]] = {2: [], 4: []}
    for name, layer in encoder.tuned_part().named_modules():
        if not isinstance(layer, nn.Linear | nn.Conv2d) and not is_transposed(layer):
            continue
        weight = layer.get_parameter("weight")
        if id(weight) in inside and getattr(layer, "groups", 1) == 1:
            found[weight.ndim].append(name)
    return found[2] or found[4]


def layer_kinds(layers: Sequence[str]) -> list[str]:
    """Return the last parts of layers' names, each once."""
    return sorted({name.rpartition(".")[2] for name in layers})


def matches_target(name: str, target: str) -> bool:
    """Say whether a layer's name is the target, or ends in it."""
    return f".{name}".endswith(f".{target}")

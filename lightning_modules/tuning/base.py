"""The tuning contract: which weights of an encoder train."""

from __future__ import annotations

import json
import math
import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from lightning_modules.encoders.base import Encoder
from lightning_modules.encoders.pretrained_files import read_config, read_weights
from lightning_modules.state_dicts import StateDict
from lightning_modules.tuning.adapted_layers import AdaptedLayer, filled
from pollinate.errors import PollinateError, UsageError
from pollinate.recipes import Buildable
from pollinate.suggest import listing

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
DOWN, UP, MAGNITUDE = ".lora_A.weight", ".lora_B.weight", ".lora_magnitude_vector"
PREFIX = "base_model.model."  # peft's, before the names of a network's layers


@dataclass(frozen=True)
class PeftAdapter:
    """h = W x + (alpha / rank) B A x on some layers.

    weights: {``LAYER.lora_A.weight``, say: tensor}.
    transposed: whether the layers hold W as (in, out).
    decomposed: whether W's columns have lengths of their own (DoRA).

    Examples:
        >>> import pathlib, torch, pollinate as po
        >>> weights = {"q.lora_A.weight": torch.ones(1, 3), "q.lora_B.weight": torch.ones(2, 1)}
        >>> adapter = po.tuning.PeftAdapter(rank=1, alpha=2.0, dropout=0.0, weights=weights)
        >>> adapter.layer("q", None).weight(torch.zeros(2, 3))  # as the layer holds it: W + 2 B A
        tensor([[2., 2., 2.],
                [2., 2., 2.]])
        >>> folder = pathlib.Path("mine")
        >>> folder.mkdir()
        >>> adapter.write(folder, "owner/model")
        >>> po.tuning.PeftAdapter.read(folder).layers
        ['q']
    """

    rank: int
    alpha: float
    dropout: float
    weights: Mapping[str, Tensor]
    transposed: bool = False
    decomposed: bool = False

    @classmethod
    def of(
        cls,
        layers: Mapping[str, AdaptedLayer],
        frozen: StateDict,
        dropout: float = 0.0,
        rank: int | None = None,
    ) -> PeftAdapter:
        """Return layers with adapters as peft has them, with alpha = rank; DoRA if one is.

        Args:
            layers: {name of a layer: its factors}, >= 1.
            frozen: {``LAYER.weight``: W}, looked at for DoRA only.
            dropout: in training.
            rank: of all layers, at least that of each, filled up with zeros; None: the largest.

        Raises:
            UsageError: see ``AdaptedLayer.lengths``.
        """
        size = max(one.rank for one in layers.values()) if rank is None else rank
        decomposed = any(one.gain is not None for one in layers.values())
        weights = {}
        for name, layer in layers.items():
            up = layer.up
            if decomposed:
                lengths, up = layer.lengths(frozen[f"{name}.weight"])
                shape = (1, -1, *(1,) * (layer.down.dim() - 2)) if layer.down.dim() > 2 else (-1,)
                weights[f"{name}{MAGNITUDE}"] = lengths.reshape(shape)
            full = filled(replace(layer, up=up), size)
            weights[f"{name}{DOWN}"] = full.down
            weights[f"{name}{UP}"] = full.up.reshape(*full.up.shape, *(1,) * (full.down.dim() - 2))
        transposed = any(one.transposed for one in layers.values())
        return cls(size, float(size), dropout, weights, transposed, decomposed)

    @classmethod
    def read(cls, folder: Path) -> PeftAdapter:
        """Read what peft wrote: LoRA or DoRA, all scales in B, with alpha = rank.

        Args:
            folder: with adapter_config.json and adapter_model.safetensors.

        Raises:
            PollinateError: a file is missing or can't be read.
            UsageError: there are adapters of another kind, or a factor lacks the other.
        """
        if not (folder / CONFIG).is_file():
            raise PollinateError(f"{folder} must be a folder that peft wrote, with {CONFIG}")
        config = read_config(folder / CONFIG)
        given = {n.removeprefix(PREFIX): v for n, v in read_weights(folder / WEIGHTS).items()}
        unknown = sorted(n for n in given if not n.endswith((DOWN, UP, MAGNITUDE)))
        names = {end: {n.removesuffix(end) for n in given if n.endswith(end)} for end in (DOWN, UP)}
        unpaired = sorted(names[DOWN] ^ names[UP])
        if unknown or unpaired or not names[DOWN] or config.get("peft_type") != "LORA":
            raise UsageError(
                f"{folder} must hold factors A and B by LoRA or DoRA, and nothing else, got "
                f"{listing([str(config.get('peft_type')), *unknown, *unpaired])}"
            )
        weights: dict[str, Tensor] = {n: v for n, v in given.items() if n.endswith(MAGNITUDE)}
        ranks = {n.removesuffix(DOWN): len(v) for n, v in given.items() if n.endswith(DOWN)}
        size = max(ranks.values())
        for name, rank in ranks.items():
            up = peft_scale(config, name, rank) * given[f"{name}{UP}"]
            full = filled(AdaptedLayer(given[f"{name}{DOWN}"], up.flatten(1)), size)
            weights[f"{name}{DOWN}"] = full.down
            weights[f"{name}{UP}"] = full.up.reshape(*full.up.shape, *up.shape[2:])
        options = bool(config.get("fan_in_fan_out")), bool(config.get("use_dora"))
        return cls(size, float(size), float(config.get("lora_dropout") or 0), weights, *options)

    @property
    def layers(self) -> list[str]:
        """Return the names of the layers."""
        return sorted({name.partition(".lora_")[0] for name in self.weights})

    def layer(self, name: str, frozen: Tensor | None) -> AdaptedLayer:
        """Return a layer's factors with all scales in them; frozen: its W, needed for DoRA."""
        down, up = self.weights[f"{name}{DOWN}"], self.weights[f"{name}{UP}"].flatten(1)
        scaled = self.alpha / self.rank * up
        if not self.decomposed:
            return AdaptedLayer(down, scaled, None, self.transposed)
        assert frozen is not None
        lengths = self.weights[f"{name}{MAGNITUDE}"].flatten()
        return AdaptedLayer.decomposed(down, scaled, lengths, frozen, self.transposed)

    def write(self, folder: Path, base: str | None, task: str | None = None) -> None:
        """Write what ``peft.PeftModel.from_pretrained(network, folder)`` reads.

        Args:
            folder: exists.
            base: a public name of the network, or None.
            task: what peft calls the kind of network.
        """
        from safetensors.torch import save_file  # only an export needs it

        config = {
            "peft_type": "LORA",
            "task_type": task,
            "base_model_name_or_path": base,
            "r": self.rank,
            "lora_alpha": self.alpha,
            "lora_dropout": self.dropout,
            "target_modules": self.layers,
            "fan_in_fan_out": self.transposed,
            "use_dora": self.decomposed,
            "bias": "none",
            "inference_mode": True,
        }
        (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        named = {f"{PREFIX}{name}": v.contiguous() for name, v in self.weights.items()}
        save_file(named, folder / WEIGHTS, {"format": "pt"})


def peft_scale(config: Mapping[str, Any], layer: str, rank: int) -> float:
    """Return s by peft's adapter_config.json: alpha / r, or alpha / sqrt(r), of each layer's."""
    patterns = dict(config.get("alpha_pattern") or {})
    own = (alpha for pattern, alpha in patterns.items() if fits_layer(pattern, layer))
    alpha = float(next(own, config["lora_alpha"]))
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def fits_layer(pattern: str, layer: str) -> bool:
    """Say whether peft's pattern, a name or an expression, means a layer."""
    return re.search(rf"(?:^|\.){pattern}$", layer) is not None


NO_ADAPTERS = "the run trained no adapters; one with tune=task_lora, lora or dora has some"


class Tuning(metaclass=Buildable):
    """Chooses among an encoder's weights; those of a projection put on a backbone always train.

    Attributes:
        needs: packages, besides those of every run, that it is built with.
        caches: whether what the backbone makes of a row, the same in all steps, is kept on disk.
        adapts: whether it puts adapters beside the backbone, which can be taken out again.

    Examples:
        >>> import pollinate as po
        >>> class NormsOnly(po.tuning.Tuning):
        ...     def apply(self, encoder, tasks):
        ...         for name, weight in encoder.tuned_part().named_parameters():
        ...             weight.requires_grad_("norm" in name)
        >>> encoder = po.encoders.Transformer(vocab_size=50, dim=8, heads=2)
        >>> NormsOnly().apply(encoder, ["mood"])
        >>> sum(weight.numel() for weight in encoder.parameters() if weight.requires_grad)
        80
    """

    needs: ClassVar[tuple[str, ...]] = ()
    caches: bool = False
    adapts: ClassVar[bool] = False

    @abstractmethod
    def apply(self, encoder: Encoder, tasks: Sequence[str]) -> None:
        """Choose, once: after pre-trained weights were loaded, before a checkpoint's are.

        Args:
            encoder: of one modality.
            tasks: those that are predicted from rows of the modality.

        Raises:
            UsageError: the encoder has no such part.
        """

    def adapter(self, encoder: Encoder, task: str) -> PeftAdapter:
        """Return what was put beside the backbone, as a task sees it.

        Raises:
            UsageError: nothing was.
        """
        raise UsageError(NO_ADAPTERS)

    def merged(self, encoder: Encoder, task: str) -> dict[str, Tensor]:
        """Return {name: weight} of the backbone without adapters that gives a task's features.

        Raises:
            UsageError: there are no adapters.
        """
        raise UsageError(NO_ADAPTERS)


class SteppedTuning(Tuning):
    """Chooses anew at every step, by the step's number alone, so that a resumed run does the same.

    All weights that ever train are trainable after ``apply``, so that the optimizer knows them.

    Examples:
        >>> import pollinate as po
        >>> tuning = po.tuning.Gradual(every=100)
        >>> isinstance(tuning, po.tuning.SteppedTuning)
        True
        >>> encoder = po.encoders.TransformersText(85, dim=8, model="text_model", weights=False)
        >>> tuning.apply(encoder, ["mood"])
        >>> [tuning.at(encoder, step) for step in (0, 1, 100)]  # whether anything changed
        [True, False, True]
    """

    @abstractmethod
    def at(self, encoder: Encoder, step: int) -> bool:
        """Choose for an optimizer step, counted from 0; return whether anything changed."""

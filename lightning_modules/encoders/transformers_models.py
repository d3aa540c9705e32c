"""Encoders around models of transformers: architectures and weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from datamodules.features import Features
from lightning_modules.encoders.base import PretrainedEncoder
from lightning_modules.encoders.pooling import project_rows
from lightning_modules.encoders.pretrained_files import (
    differences,
    hub_or_cache,
    local_copy,
    read_config,
    refuse_weights,
)
from pollinate.errors import PollinateError
from pollinate.requirements import require

# of a model's configuration: where it was, and what makes transformers fetch code or other models
LEFT_OUT = (
    *("_name_or_path", "transformers_version", "dtype", "torch_dtype"),
    *("auto_map", "custom_pipelines", "trust_remote_code", "quantization_config", "use_kernels"),
    *("backbone", "backbone_kwargs", "use_timm_backbone", "use_pretrained_backbone"),
)
ADAPTER = "adapter_config.json"
CHOSEN_CODE = ("_implementation", "_implementation_internal", "_implementation_autoset")


def architecture_of(model: str, key: str) -> dict[str, Any]:
    """Return a model's configuration as plain values, without downloading its weights.

    Args:
        model: an id of the hub, or a local folder.
        key: the option that names it, for messages.

    Raises:
        PollinateError: there is no such model, or it is of another library.
        UsageError: transformers isn't installed.
    """
    require("transformers", "encoders")
    place = local_copy(model)
    if place is not None:
        check_folder(place / "config.json", key)
    from transformers import AutoConfig

    try:
        with hub_or_cache(place is None):
            found = AutoConfig.from_pretrained(str(place or model), **local_options(place))
    except (OSError, ValueError, KeyError) as error:
        raise PollinateError(unavailable(model, place, key, error)) from error
    config: dict[str, Any] = harmless(json.loads(json.dumps(found.to_dict(), default=str)))
    return config


def harmless(architecture: Any) -> Any:
    """Return a model's configuration without what names other models or code, at any depth.

    ``attn_implementation: USER/NAME`` would be fetched from the hub and run.
    """
    if isinstance(architecture, list | tuple):
        return [harmless(value) for value in architecture]
    if not isinstance(architecture, Mapping):
        return architecture
    return {
        name: harmless(value)
        for name, value in architecture.items()
        if name not in LEFT_OUT and not str(name).endswith(CHOSEN_CODE)
    }


def check_folder(file: Any, key: str) -> None:
    """Check that a folder holds a model of transformers.

    Raises:
        PollinateError: it has no configuration, or that of another library.
    """
    if not file.is_file():
        raise PollinateError(
            f"{key} must be a folder with config.json, {file.parent} has none; save the model "
            "there with save_pretrained"
        )
    if "model_type" not in read_config(file):
        raise PollinateError(
            f"{key} must be a model of transformers, but config.json in {file.parent} names no "
            "model_type; one of timm is for encoder/image=timm"
        )


def build_model(architecture: Mapping[str, Any], key: str, takes: str) -> nn.Module:
    """Return the network with random weights, its encoder alone if it has a decoder, too.

    A pooler on top is left out: nothing here reads it.

    Args:
        architecture: of ``architecture_of``.
        key: the option that names the model, for messages.
        takes: the input that it must take: ``input_ids``, say.

    Raises:
        PollinateError: it takes another input, or is of several modalities or for one purpose.
    """
    require("transformers", "encoders")
    from transformers import AutoConfig, AutoModel

    kind = architecture.get("model_type")
    try:
        config = AutoConfig.for_model(**harmless(architecture))
        found: Any = AutoModel.from_config(config, dtype=torch.float32, trust_remote_code=False)
    except (ValueError, TypeError) as error:  # it lists all that it knows
        raise PollinateError(
            f"{key} must be a model that transformers' AutoModel builds, but it has none of "
            f"{kind}; choose another"
        ) from error
    if found.main_input_name != takes:
        raise PollinateError(
            f"{key} must be a model that takes {takes}, but one of {kind} takes "
            f"{found.main_input_name}; choose another, or another encoder for it"
        )
    if not hasattr(config, "hidden_size"):
        parts = ", ".join(sorted(config.sub_configs)) or "no hidden_size"
        raise PollinateError(
            f"{key} must be a model of one modality, but one of {kind} has {parts}; save the part "
            "that you want, and what prepares its inputs, into a folder of its own"
        )
    return trimmed(found)


def trimmed(model: Any) -> nn.Module:
    """Return the part that gives features."""
    network: nn.Module = model.get_encoder() if model.config.is_encoder_decoder else model
    if network._modules.get("pooler") is not None:
        network._modules["pooler"] = None
    return network


def width_of(network: Any) -> int:
    """Return the width W of a network's last vectors; OPT may bring them to its embeddings'."""
    config = network.config
    return int(getattr(config, "word_embed_proj_dim", config.hidden_size))


def load_model(network: nn.Module, model: str, key: str, auto: Any = None) -> None:
    """Take over a model's weights.

    Args:
        network: built from the model's architecture.
        model: an id of the hub, or a local folder.
        key: the option that names it, for messages.
        auto: transformers' class for such models; None: ``AutoModel``, of which the part that gives
            features is taken.

    Raises:
        PollinateError: there are none, or they don't fit.
    """
    from transformers import AutoConfig, AutoModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()  # what doesn't fit is said below
    place = local_copy(model)
    if place is not None and (place / ADAPTER).exists():  # transformers would read what it names
        raise PollinateError(f"{key} must be a model, {place} has an {ADAPTER}: it is an adapter")
    try:
        with hub_or_cache(place is None):
            loaded, report = (auto or AutoModel).from_pretrained(
                str(place or model),
                config=AutoConfig.for_model(**architecture_of(model, key)),
                dtype=torch.float32,
                weights_only=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are refused below, by name
                **local_options(place),
            )
    except Exception as error:  # files and hub fail in many ways
        raise PollinateError(unavailable(model, place, key, error)) from error
    refuse_weights(unfit(loaded, report), place or model)
    part = (trimmed(loaded) if auto is None else loaded).state_dict()
    refuse_weights(differences(network.state_dict(), {k: v.shape for k, v in part.items()}), model)
    network.load_state_dict(part)


def save_model(network: Any, folder: Path, weights: Mapping[str, Tensor], key: str) -> None:
    """Write config.json and model.safetensors.

    Raises:
        PollinateError: the network is the encoder of a model that has a decoder, too.
    """
    if network.config.is_encoder_decoder and network.get_output_embeddings() is None:
        raise PollinateError(
            f"{key} names a model with a decoder, which the run left out, so that no whole model "
            "can be written; write the adapter alone: merge=false"
        )
    from safetensors.torch import save_file

    network.config.architectures = [type(network).__name__]
    network.config.save_pretrained(folder)
    own = {name: value.contiguous() for name, value in weights.items()}
    save_file(own, folder / "model.safetensors", {"format": "pt"})


def unfit(loaded: nn.Module, report: Mapping[str, Any]) -> list[str]:
    """Return what transformers had no weights, or weights of another shape, for."""
    own = {name: tuple(value.shape) for name, value in loaded.state_dict().items()}
    other = {name: tuple(there) for name, there, _ in report["mismatched_keys"]}
    missing = {name: "nothing" for name in report["missing_keys"] if "pooler." not in name}
    return [
        f"{name}: {there} there, {own.get(name, 'nothing')} here"
        for name, there in sorted({**missing, **other}.items())
    ]


def local_options(place: Any) -> dict[str, Any]:
    """Return transformers' options that keep strange code out, and the network where it can."""
    return {"trust_remote_code": False, "local_files_only": place is not None}


def unavailable(model: str, place: Any, key: str, error: Exception) -> str:
    """Return why a model can't be used, and what can be done."""
    if place is not None:
        return f"the model in {place} can't be loaded: {str(error).partition(chr(10))[0]}"
    return (
        f"{model} can't be had from the hub; give a local copy: {key}=FOLDER, made where the hub "
        f"can be reached: hf download {model} --local-dir FOLDER"
    )


class TransformersEncoder(PretrainedEncoder):
    """A network of transformers: sequence = W f(inputs), where W is left out if the widths agree.

    Args:
        dim: width D of the features.
        model: an id of the hub, or a local folder.
        weights: whether the model's weights are loaded; False: start from scratch.
        checkpointing: compute again in the backward pass instead of keeping: less memory, slower.
        known: what ``assets_of`` returned.

    Attributes:
        key: the option that names the model, for messages.
        takes: the input that the network must take.

    Examples:
        >>> import torch, pollinate as po
        >>> encoder = po.encoders.TransformersText(85, dim=8, model="text_model", weights=False)
        >>> isinstance(encoder, po.encoders.TransformersEncoder), encoder.takes
        (True, 'input_ids')
        >>> encoder.finish(encoder.backbone(torch.ones(2, 5, dtype=torch.int64))).pooled.shape
        torch.Size([2, 8])
    """

    needs: ClassVar[tuple[str, ...]] = ("transformers", "safetensors")
    key: ClassVar[str]
    takes: ClassVar[str]
    network: Any  # the classes of transformers have no common type

    def __init__(
        self, dim: int, model: str, weights: bool, checkpointing: bool, known: Mapping[str, Any]
    ) -> None:
        super().__init__()
        self.known = known
        self.dim, self.model, self.weights = dim, model, weights
        self.network = self.build(known["architecture"], self.key, self.takes)
        if checkpointing:
            self.network.activation_checkpointing_enable({"use_reentrant": False})
        width = width_of(self.network)
        self.project = nn.Identity() if width == dim else nn.Linear(width, dim)

    @classmethod
    def build(cls, architecture: Mapping[str, Any], key: str, takes: str) -> Any:
        """Return the network with random weights; see ``build_model``."""
        return build_model(architecture, key, takes)

    def load(self) -> None:
        """Load the weights of the folder or of the hub."""
        if self.weights:
            load_model(self.network, self.model, self.key)

    def tuned_part(self) -> nn.Module:
        network: nn.Module = self.network
        return network

    def finish(self, features: Features) -> Features:
        return project_rows(self.project, features)

    def no_rows(self, row: Tensor) -> Features:
        """Return the features of no rows, by way of one: a network can't take an empty batch.

        Every process must reach the same parameters, whatever rows it has.

        Args:
            row: (1, ...) any that the network takes.
        """
        one = self.backbone(row)
        assert one.sequence is not None
        assert one.mask is not None
        return Features(one.pooled[:0], one.sequence[:0], mask=one.mask[:0])

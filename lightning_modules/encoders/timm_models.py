"""Models of timm: what they are, and their weights."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from lightning_modules.encoders.hub import hub
from lightning_modules.encoders.places import local_copy, read_config
from lightning_modules.encoders.weight_files import SUFFIXES
from lightning_modules.encoders.weight_fit import differences
from lightning_modules.tuning.blocks import Groups, parameter_groups_of
from pipeline.checks import require
from pipeline.configuration.suggest import did_you_mean
from pipeline.errors import PollinateError, UsageError

COLOURS = 3
HUB = "hf-hub:"
HELP = (
    "give a local copy: encoder.image.model=FOLDER with config.json and model.safetensors, or "
    "encoder.image.file=FILE of its weights"
)


def described(place: Path | None, model: str) -> dict[str, Any]:
    """Return {architecture, arguments, pretrained} of a name of timm, a hub's id or a folder.

    Raises:
        PollinateError: there is no such model.
    """
    if place is not None:
        return described_by_folder(place)
    from timm.models import get_pretrained_cfg, is_model, load_model_config_from_hf

    if model.startswith(HUB):
        try:
            with hub():
                settings, architecture, arguments = load_model_config_from_hf(
                    model.removeprefix(HUB)
                )
        except Exception as error:  # the hub's client fails in many ways without a network
            raise PollinateError(f"{model} can't be had from the hub; {HELP}") from error
        return {"architecture": architecture, "arguments": arguments or {}, "pretrained": settings}
    if not is_model(model):
        from timm import list_models

        guess = did_you_mean(model, list_models())
        raise UsageError(
            f"encoder.image.model must be a model of timm, got {model}{guess or ';'} "
            "all of them: python -c 'import timm; print(timm.list_models())'"
        )
    found = get_pretrained_cfg(model)
    settings = found.to_dict() if found is not None else {}
    return {"architecture": model, "arguments": {}, "pretrained": settings}


def described_by_folder(place: Path) -> dict[str, Any]:
    """Return what a folder's config.json says.

    Raises:
        PollinateError: there is none, or it is of another library's model.
    """
    file = place / "config.json"
    if not file.is_file():
        raise PollinateError(
            f"encoder.image.model must be a folder with config.json, {place} has none; for a file "
            "of weights give the model's name, and encoder.image.file=FILE"
        )
    found = read_config(file)
    if "architecture" not in found:
        kind = found.get("model_type", "another library's")
        raise PollinateError(
            f"encoder.image.model must be a model of timm, {place} is one of {kind}: its "
            "config.json names no architecture of timm; a text model is for encoder/text"
        )
    return {
        "architecture": found["architecture"],
        "arguments": found.get("model_args") or {},
        "pretrained": found.get("pretrained_cfg", found),
    }


def create(known: Mapping[str, Any], size: Sequence[int] | None, stride: int | None = None) -> Any:
    """Return timm's network, with random weights and without a classifier.

    Args:
        known: what ``TimmImage.brings`` returned.
        size: height and width of the pictures.
        stride: pixels of a cell of the grid along a side; None: what is usual for the network.

    Raises:
        UsageError: timm refuses.
    """
    require("timm", "encoders")
    import timm

    sized: dict[str, Any] = {"img_size": tuple(size)} if size is not None and known["fixed"] else {}
    if stride is not None:
        sized["output_stride"] = stride
    try:
        return timm.create_model(
            known["architecture"],
            pretrained=False,
            **{**known["arguments"], **sized, "num_classes": 0, "in_chans": COLOURS},
        )
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UsageError(f"timm refuses {known['architecture']}: {error}") from error
    except TypeError as error:  # an argument that the architecture doesn't take
        if stride is None:
            raise UsageError(f"timm refuses {known['architecture']}: {error}") from error
        raise UsageError(
            f"timm's {known['architecture']} takes no encoder.image.stride, got {stride}; leave it "
            "out, or take a network such as resnet18 that does"
        ) from error


def weight_file(model: str, file: str | None) -> Path | None:
    """Return the local file of a model's weights, None if they are on a hub.

    Raises:
        PollinateError: the folder has no weights.
    """
    if file is not None:
        return local_copy(file) or Path(file)
    place = local_copy(model)
    if place is None:
        return None
    for suffix in SUFFIXES:
        for name in ("model", "pytorch_model"):
            if (found := place / f"{name}{suffix}").is_file():
                return found
    raise PollinateError(
        f"{place} has no weights (model.safetensors); put them there, name them: "
        "encoder.image.file=FILE, or start from scratch: encoder.image.weights=false"
    )


def download(model: str) -> dict[str, Tensor]:
    """Return the weights that timm's hub has.

    Raises:
        PollinateError: it has none, or can't be reached.
    """
    import timm

    try:
        with hub():
            found = timm.create_model(model, pretrained=True, num_classes=0)
    except Exception as error:  # the hub's client fails in many ways without a network
        raise PollinateError(
            f"the weights of {model} can't be had from the hub; {HELP}, or start from scratch: "
            "encoder.image.weights=false"
        ) from error
    return dict(found.state_dict())


def save_model(folder: Path, known: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
    """Write config.json and model.safetensors of a network without a classifier.

    Args:
        folder: exists.
        known: what an encoder's ``brings`` returned.
        weights: of the network.
    """
    from safetensors.torch import save_file

    settings = {
        "input_size": [COLOURS, *known["size"]],
        "fixed_input_size": known["fixed"],
        "mean": known["mean"],
        "std": known["std"],
        "num_classes": 0,
    }
    config = {
        "architecture": known["architecture"],
        "num_classes": 0,
        "model_args": known["arguments"],
        "pretrained_cfg": settings,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    own = {name: value.contiguous() for name, value in weights.items()}
    save_file(own, folder / "model.safetensors", {"format": "pt"})


def adapted(weights: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Bring weights to the network's form as timm does: older names, positions of another size."""
    if not differences(network.state_dict(), {k: v.shape for k, v in weights.items()}):
        return weights
    # timm keeps what it does to a family's files beside the family's networks, under this name
    change = getattr(import_module(type(network).__module__), "checkpoint_filter_fn", None)
    try:
        return weights if change is None else dict(change(weights, network))
    except (KeyError, RuntimeError, AttributeError):
        return weights  # of another family: what doesn't fit is said by name


def grouped(network: Any) -> Groups:
    """Return the parameters as timm divides them for learning rates by depth, from the input on.

    A network for which timm has no division is divided by its own longest list of modules.
    """
    from timm.models import group_parameters

    try:
        matcher = network.group_matcher(coarse=True)
    except (AttributeError, AssertionError):  # it has none, or says that it can't
        return parameter_groups_of(network)
    numbers = group_parameters(network, matcher, reverse=True)
    blocks: dict[int, list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        blocks.setdefault(int(numbers[name]), []).append(parameter)
    return [blocks[number] for number in sorted(blocks)]

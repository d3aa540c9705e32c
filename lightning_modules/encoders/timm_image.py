"""Any image model of timm."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from datamodules.features import Features
from lightning_modules.encoders.base import PretrainedEncoder
from lightning_modules.encoders.pretrained_files import (
    SUFFIXES,
    differences,
    hub_or_cache,
    load_fitting,
    local_copy,
    read_config,
    read_weights,
)
from lightning_modules.encoders.weight_names import WeightNames
from lightning_modules.freezing import Groups, parameter_groups_of, running_statistics
from pollinate.errors import PollinateError, UsageError
from pollinate.requirements import require
from pollinate.suggest import did_you_mean

COLOURS = 3
HUB = "hf-hub:"
HELP = (
    "give a local copy: encoder.image.model=FOLDER with config.json and model.safetensors, or "
    "encoder.image.file=FILE of its weights"
)


def describe_model(place: Path | None, model: str) -> dict[str, Any]:
    """Return {architecture, arguments, pretrained} of a name of timm, a hub's id or a folder.

    Raises:
        PollinateError: there is no such model.
    """
    if place is not None:
        return describe_folder(place)
    from timm.models import get_pretrained_cfg, is_model, load_model_config_from_hf

    if model.startswith(HUB):
        try:
            with hub_or_cache():
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


def describe_folder(place: Path) -> dict[str, Any]:
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
        "arguments": dict(found.get("model_args") or {}),
        "pretrained": found.get("pretrained_cfg", found),
    }


def create_network(
    known: Mapping[str, Any], size: Sequence[int] | None, stride: int | None = None
) -> Any:
    """Return timm's network, with random weights and without a classifier.

    Args:
        known: what ``TimmImage.assets_of`` returned.
        size: height and width of the pictures.
        stride: pixels of a cell of the grid along a side; None: what is usual for the network.

    Raises:
        UsageError: timm refuses.
    """
    require("timm", "encoders")
    import timm

    check_arguments(known["architecture"], known["arguments"])
    sized: dict[str, Any] = {"img_size": tuple(size)} if size is not None and known["fixed"] else {}
    if stride is not None:
        sized["output_stride"] = stride
    try:
        return timm.create_model(
            known["architecture"],
            pretrained=False,
            **{**known["arguments"], **sized, "num_classes": 0, "in_chans": COLOURS},
        )
    except (ValueError, KeyError, RuntimeError, AssertionError, NotImplementedError) as error:
        raise UsageError(f"timm refuses {known['architecture']}: {error}") from error
    except TypeError as error:  # an argument that the architecture doesn't take
        if stride is None:
            raise UsageError(f"timm refuses {known['architecture']}: {error}") from error
        raise UsageError(
            f"timm's {known['architecture']} takes no encoder.image.stride, got {stride}; leave it "
            "out, or take a network such as resnet18 that does"
        ) from error


def check_arguments(architecture: Any, arguments: Any) -> None:
    """Check that a file names one of timm's networks, and plain arguments of its own class.

    timm's factory has more of them: one unpickles a file of any path.

    Raises:
        PollinateError: another name, or another argument.
    """
    from timm.models import is_model, model_entrypoint

    if not isinstance(architecture, str) or ":" in architecture or not is_model(architecture):
        raise PollinateError(
            f"the architecture must be a network of timm, got {architecture!r:.80}; all of them: "
            "python -c 'import timm; print(timm.list_models())'"
        )
    module = import_module(model_entrypoint(architecture).__module__)
    kinds = [one for one in vars(module).values() if isinstance(one, type)]
    known = {name for kind in kinds for name in constructor_arguments(kind)}
    for name, value in dict(arguments).items():
        if name not in known or not is_plain(value):
            raise PollinateError(
                f"timm's {architecture} takes no argument {name}={value!r:.60} from a file; "
                f"allowed are plain values of {', '.join(sorted(known))}"
            )


def constructor_arguments(kind: type[Any]) -> list[str]:
    """Return the arguments of a network's class; none of one that is no network."""
    found = list(signature(kind.__init__).parameters)[1:] if issubclass(kind, nn.Module) else []
    return [name for name in found if name != "kwargs"] if "num_classes" in found else []


def is_plain(value: Any) -> bool:
    """Say whether a value is a number, a name or a list of such."""
    if isinstance(value, list | tuple):
        return all(is_plain(one) for one in value)
    is_name = isinstance(value, str) and value.replace("_", "").replace("-", "").isalnum()
    return value is None or isinstance(value, bool | int | float) or is_name or value == ""


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
        with hub_or_cache():
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
        known: what an encoder's ``assets_of`` returned.
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


def adapt_weights(weights: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Bring weights to the network's form as timm does: older names, positions of another size."""
    if not differences(network.state_dict(), {k: v.shape for k, v in weights.items()}):
        return weights
    # timm keeps what it does to a family's files beside the family's networks, under this name
    change = getattr(import_module(type(network).__module__), "checkpoint_filter_fn", None)
    try:
        return weights if change is None else dict(change(weights, network))
    except (KeyError, RuntimeError, AttributeError):
        return weights  # of another family: what doesn't fit is said by name


def layer_groups(network: Any) -> Groups:
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


class TimmImage(PretrainedEncoder):
    """A network of timm without its classifier: pooled = W pool(f((x - mean) / std)).

    W is learnt, and left out if the widths agree. mean and std are those that the network was
    trained with. Grey pictures get three equal channels. Source: Wightman 2019, "PyTorch image
    models". A batch of fewer than two pictures has no statistics of its own, so BatchNorm goes by
    its running ones there.

    Args:
        in_channels: 1 or 3.
        dim: width D of the features.
        model: a name of timm, an id of a hub (``hf-hub:USER/NAME``), or a local folder.
        weights: whether the model's weights are loaded; False: start from scratch.
        file: a local file of its weights; None: from where the model is.
        names: translates the file's names of weights; None: they are timm's.
        checkpointing: compute again in the backward pass instead of keeping: less memory, slower.
        stride: 8 or 16: pixels of a cell of the grid along a side, finer than usual, for tasks that
            label pixels; strides beyond become dilations (Yu and Koltun 2016). None: as it is.
        size: height and width of the pictures, which some networks must know.
        assets: what ``assets_of`` returned in the run that made a checkpoint; None: ask the model.

    Raises:
        UsageError: timm isn't installed, or the model can't do what is asked.

    Examples:
        >>> import torch, pollinate as po
        >>> encoder = po.encoders.TimmImage(3, dim=8, model="test_resnet", weights=False)
        >>> features = encoder(torch.rand(2, 3, 64, 64))
        >>> features.pooled.shape, features.grid.shape
        (torch.Size([2, 8]), torch.Size([2, 8, 2, 2]))
    """

    needs: ClassVar[tuple[str, ...]] = ("timm", "safetensors")
    network: Any  # timm's classes have no common type
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        in_channels: int,
        dim: int,
        model: str,
        weights: bool = True,
        file: str | None = None,
        names: WeightNames | None = None,
        checkpointing: bool = False,
        stride: int | None = None,
        size: Sequence[int] | None = None,
        assets: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.known = known = assets or self.assets_of({"model": model})
        self.dim = dim
        self.model, self.weights, self.file, self.names = model, weights, file, names
        self.network = create_network(known, size, stride)
        if checkpointing:
            self.network.set_grad_checkpointing(True)
        width = self.network.head_hidden_size
        self.project = nn.Identity() if width == dim else nn.Linear(width, dim)
        cells = (
            self.network.num_features
        )  # some networks widen their features before the classifier
        self.project_cells = None if cells == width else nn.Linear(cells, dim)
        for name in ("mean", "std"):
            values = torch.tensor(known[name], dtype=torch.float32)
            self.register_buffer(name, values[:, None, None], persistent=False)

    @classmethod
    def assets_of(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return architecture, arguments, and size, mean and std of the pictures.

        Raises:
            PollinateError: timm knows no such model, or the folder holds none.
            UsageError: timm isn't installed.
        """
        require("timm", "encoders")
        model = options["model"]
        found = describe_model(local_copy(model), model)
        settings = found["pretrained"]
        return {
            "architecture": found["architecture"],
            "arguments": found["arguments"],
            "size": list(settings["input_size"])[1:],
            "fixed": bool(settings.get("fixed_input_size")),
            "mean": list(settings["mean"]),
            "std": list(settings["std"]),
        }

    def load(self) -> None:
        """Load the weights of the file, of the folder, or of timm's hub."""
        if not self.weights:
            return
        path = weight_file(self.model, self.file)
        weights = download(self.model) if path is None else read_weights(path)
        if self.names is not None:
            weights = {self.names(name): value for name, value in weights.items()}
        load_fitting(self.network, adapt_weights(weights, self.network), path or self.model)

    def save(self, folder: Path, weights: Mapping[str, Tensor]) -> None:
        """Write config.json and model.safetensors, as timm does for a hub."""
        save_model(folder, self.known, weights)

    def tuned_part(self) -> nn.Module:
        network: nn.Module = self.network
        return network

    def tuned_groups(self) -> Groups:
        """Return the parameters by timm's own division of the network."""
        return layer_groups(self.network)

    def backbone(self, inputs: Tensor) -> Features:
        """Encode (N, C, H, W) pictures of [0, 1]: pooled (N, D1) and grid (N, D2, H', W').

        Raises:
            UsageError: the network can't divide pictures of that size into its patches.
        """
        if not len(inputs):
            # a network needs a picture; every process must reach the same parameters all the same
            blank = self.backbone(inputs.new_zeros((1, *inputs.shape[1:])))
            return Features(blank.pooled[:0], grid=None if blank.grid is None else blank.grid[:0])
        pictures = (inputs.expand(-1, COLOURS, -1, -1) - self.mean) / self.std
        # colours innermost: convolutions keep it so, and take two thirds of the time on a CPU
        pictures = pictures.contiguous(memory_format=torch.channels_last)
        with running_statistics(self.network, len(inputs) < 2):
            try:
                found = self.network.forward_features(pictures)
            except AssertionError as error:  # timm's patches check what they are given
                height, width = inputs.shape[-2:]
                raise UsageError(
                    f"timm refuses pictures of {height} x {width}: {error} Set data.image.size"
                ) from error
        pooled = self.network.forward_head(found, pre_logits=True)
        cells = as_cells(found, self.network)
        return Features(pooled, grid=None if cells is None else cells.movedim(-1, 1))

    def finish(self, features: Features) -> Features:
        """Project pooled vectors and cells to D."""
        grid = features.grid
        if grid is not None:
            project = self.project if self.project_cells is None else self.project_cells
            grid = project(grid.movedim(1, -1)).movedim(-1, 1)
        return Features(self.project(features.pooled), grid=grid)


def as_cells(found: Any, network: Any) -> Tensor | None:
    """Return features as a grid (N, H, W, D), None if the network has none that is known.

    Args:
        found: (N, D, H, W), (N, H, W, D), or (N, L, D) with tokens before the grid's; some networks
            have several of these.
        network: of timm.
    """
    if not isinstance(found, Tensor):
        return None
    width = network.num_features
    if found.ndim == 4:
        return found.movedim(1, -1) if found.shape[1] == width else found
    if found.ndim != 3:
        return None
    sides = getattr(getattr(network, "patch_embed", None), "grid_size", None)
    if sides is None:
        return None
    cells = found[:, getattr(network, "num_prefix_tokens", 0) :]
    rows, columns = sides
    fits = cells.shape[1] == rows * columns
    return cells.reshape(len(cells), rows, columns, -1) if fits else None

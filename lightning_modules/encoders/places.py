"""Where a model is: a folder or file here, inside an installed package, or on a hub."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pipeline.errors import PollinateError, UsageError

PACKAGE = "package:"  # package:NAME/PATH is PATH inside the installed package NAME
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
        found = json.loads(file.read_text(encoding="utf-8"))
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
    spec = find_spec(package)
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    for folder in folders:
        if (path := Path(folder) / inner).exists():
            return path
    missing = f"{inner} in the package {package}" if folders else f"the package {package}"
    raise UsageError(f'{missing} is not installed; pip install "pollinate[pretrained]"')

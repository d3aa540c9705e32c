"""Where a model is: a folder or file here, inside an installed package, or on a hub."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from pipeline.errors import UsageError

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
    if path.exists():
        return path.absolute()
    if model.startswith(HERE) or model.count("/") > 1:
        raise UsageError(
            f"the model must be a folder, a file or an id of a hub; nothing is at {path}"
        )
    return None


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

"""The code and the packages that a model in MLflow needs beside its weights."""

from __future__ import annotations

import shutil
import sysconfig
from collections.abc import Sequence
from importlib.metadata import packages_distributions, version
from importlib.util import find_spec
from pathlib import Path

from pipeline.errors import PollinateError

OWN = ("pipeline", "datamodules", "lightning_modules", "configs")
NEEDED = (  # what loading and predicting import
    "mlflow",
    "torch",
    "torchvision",
    "torchmetrics",
    "lightning",
    "tokenizers",
    "numpy",
    "pandas",
    "pillow",
    "omegaconf",
)


def copy_code(folder: Path, allow_targets: Sequence[str]) -> list[str]:
    """Copy our packages and the user's; return pip's lines for those that pip installed."""
    requirements = []
    for name in dict.fromkeys([*OWN, *(target.partition(".")[0] for target in allow_targets)]):
        place = place_of(name)
        if name not in OWN and is_installed(place):
            requirements += [pinned(found) for found in packages_distributions()[name]]
        elif place.is_dir():
            shutil.copytree(place, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(place, folder)
    return requirements


def place_of(package: str) -> Path:
    """Return the folder or file of an importable package.

    Raises:
        PollinateError: it can't be found.
    """
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise PollinateError(
            f"allow_targets names {package}, whose code can't be found, so the model can't take it "
            "along; give it an __init__.py"
        )
    origin = Path(spec.origin)
    return origin.parent if origin.name == "__init__.py" else origin


def is_installed(place: Path) -> bool:
    """Say whether pip put it there, so that pip can do so elsewhere."""
    return place.is_relative_to(sysconfig.get_path("purelib"))


def pinned(distribution: str) -> str:
    """Return pip's line for the installed version; its build, ``+cpu`` say, is not on PyPI."""
    return f"{distribution}=={version(distribution).partition('+')[0]}"

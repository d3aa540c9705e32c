"""Cheap checks before a run starts, while torch is not yet imported."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

from pollinate.errors import PollinateError, UsageError
from pollinate.program import UserPackages, current_folder

RANKS = ("LOCAL_RANK", "NODE_RANK", "RANK", "SLURM_PROCID")


def require(package: str, extra: str) -> None:
    """Check that a package of one of Pollinate's extras is installed, without importing it."""
    if installed_spec(package) is None:
        raise UsageError(
            f'{package} is not installed; run pip install "pollinate[{extra}]", '
            f'or in a clone of the repository pip install -e ".[{extra}]"'
        )


def installed_spec(package: str) -> ModuleSpec | None:
    """Return where an installed package is; None: there is none. Nothing is imported.

    Where the user stands is not looked at: a file there may be a stranger's. Neither is a name with
    a dot, as Python would import what is before the dot.
    """
    if not package.isidentifier():
        return None
    here = current_folder()
    elsewhere = [entry for entry in sys.path if entry and Path(entry).resolve() != here]
    for finder in sys.meta_path:
        places = elsewhere if finder is PathFinder else None
        if isinstance(finder, UserPackages):
            continue
        if (found := finder.find_spec(package, places)) is not None:
            return found
    return None


def allow_nothing(path: Path) -> bool:
    """Say no of whatever lies in a folder: it is somebody's."""
    return False


def check_is_new(run_dir: Path, allowed: Callable[[Path], bool] = allow_nothing) -> None:
    """Check that a folder holds no earlier run, unless another process of this run fills it.

    Args:
        run_dir: the folder.
        allowed: says of what lies in it whether that is nobody's.
    """
    found = list(run_dir.iterdir()) if run_dir.is_dir() else []
    if not all(map(allowed, found)) and not is_other_process():
        raise UsageError(
            f"run_dir must be new or empty, got {run_dir}, which holds files; nothing is "
            "overwritten: choose another run_dir, or resume that run: resume=last"
        )


def check_writable(run_dir: Path, key: str = "run_dir") -> None:
    """Check that a folder, which need not exist yet, can be written to."""
    existing = next(path for path in (run_dir, *run_dir.absolute().parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        problem = "not writable" if existing.is_dir() else "not a folder"
        raise PollinateError(
            f"{key} must be writable, got {run_dir}: {existing} is {problem}; "
            f"choose another: {key}=PATH"
        )


def require_all(requires: Mapping[str, str]) -> None:
    for package, extra in requires.items():
        require(package, extra)


def check_run_folder(
    config: Mapping[str, Any], allowed: Callable[[Path], bool] = allow_nothing
) -> None:
    """Check the folder that a training is to fill; ``allowed`` as for ``check_is_new``."""
    if config["run_dir"] and config["resume"] is None:
        check_is_new(Path(config["run_dir"]), allowed)
    check_writable(Path(config["run_dir"] or "runs"))


def is_other_process() -> bool:
    """Say whether the launcher made this process beside a first one, which begins the run."""
    return any(os.environ.get(name, "0") != "0" for name in RANKS)

"""Read one YAML file of the user or of the package."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError, YAMLError

from pipeline.errors import UsageError

# an interpolation or a URL is not a path relative to the file
NOT_RELATIVE = re.compile(r"^\$\{|^[a-z][a-z0-9+.-]*://", re.IGNORECASE)


PATHS = ("path", "files", "folder", "cache")  # keys whose values are paths


def load_yaml(file: Path) -> DictConfig:
    """Return the file's mapping, with the values of its ``PATHS`` keys made absolute.

    Raises:
        UsageError: the file can't be read, isn't YAML, repeats a key or isn't a mapping.

    """
    try:
        config = OmegaConf.load(file)
    except MarkedYAMLError as error:
        raise UsageError(_broken(file, error)) from error
    except (YAMLError, OSError, UnicodeDecodeError, OmegaConfBaseException) as error:
        raise UsageError(f"{file} can't be read as YAML: {error}") from error
    if not isinstance(config, DictConfig):
        raise UsageError(f"{file} must be a mapping of keys to values, got a list")
    plain = cast("dict[Any, Any]", OmegaConf.to_container(config, resolve=False))
    return DictConfig(_absolute_paths(plain, file.parent))


def _broken(file: Path, error: MarkedYAMLError) -> str:
    mark = error.problem_mark
    where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    return f"{file}{where}: {error.problem or error.context}"


def _absolute_paths(node: Any, folder: Path) -> Any:
    """Resolve paths against the file's folder: one, a list, or {split: either}."""
    if isinstance(node, list):
        return [_absolute_paths(item, folder) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: _absolute(value, folder) if key in PATHS else _absolute_paths(value, folder)
        for key, value in node.items()
    }


def _absolute(value: Any, folder: Path) -> Any:
    if isinstance(value, list):
        return [_absolute(item, folder) for item in value]
    if isinstance(value, dict):
        return {key: _absolute(item, folder) for key, item in value.items()}
    if not isinstance(value, str) or value == "???" or NOT_RELATIVE.match(value):
        return value
    return str((folder / Path(value).expanduser()).resolve())

"""Compose and check a command's configuration: plain containers, before torch is imported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pipeline.configuration.check import TRAINING, check
from pipeline.configuration.chosen_tasks import only_chosen
from pipeline.configuration.config_sources import searching
from pipeline.configuration.groups import SHIPPED, options, search_folders
from pipeline.configuration.named import beside_name, make_room, resolve_named
from pipeline.configuration.overrides import ALLOW_TARGETS, CommandLine, sort_overrides
from pipeline.configuration.schema import SCHEMAS
from pipeline.configuration.suggest import hint
from pipeline.configuration.yaml_files import load_yaml
from pipeline.errors import UsageError


@dataclass(frozen=True)
class Composed:
    """A checked configuration and the packages that it needs besides our own."""

    config: dict[str, Any]
    requires: dict[str, str]  # {import name: extra of pollinate}


def compose(
    command: str, overrides: Sequence[str] = (), config_dirs: Sequence[Path] = ()
) -> dict[str, Any]:
    """Return the checked configuration of a command, with all interpolations resolved.

    Args:
        command: ``fit``, ``evaluate``, ...: a YAML file of configs/ with a schema.
        overrides: ``group=option``, ``group=file.yaml``, ``key=value`` or ``~key``.
        config_dirs: folders searched before the shipped configs.

    Raises:
        UsageError: with every problem found: key, value found, what is allowed, nearest name.

    """
    return compose_with_requirements(command, overrides, config_dirs).config


def compose_with_requirements(
    command: str, overrides: Sequence[str] = (), config_dirs: Sequence[Path] = ()
) -> Composed:
    """Return what ``compose`` does, and the packages named by ``_requires_`` keys."""
    if command not in SCHEMAS:
        raise UsageError(f"{command!r} has no schema{hint(command, SCHEMAS, 'commands')}")
    folders = search_folders(config_dirs)
    defaults, keys = _primary(command, folders)
    line = sort_overrides(overrides, folders, defaults, keys)
    config = _hydra(command, line.for_hydra(defaults), line.files, folders)
    _set_values(config, line)
    resolve_named(config, folders)
    plain = _resolved(config)
    requires = _pop_requirements(plain)
    check(command, plain, line.allow_targets)
    return Composed(only_chosen(plain) if command in TRAINING else plain, requires)


def _primary(command: str, folders: Sequence[Path]) -> tuple[dict[str, str | None], list[str]]:
    """Return the groups of a command's file, and its keys, with those of a file it builds on."""
    primary = load_yaml(next(f for d in folders if (f := d / f"{command}.yaml").is_file()))
    groups, keys = _groups(primary), [str(key) for key in primary]
    for entry in primary.get("defaults") or []:
        if isinstance(entry, str) and entry != "_self_":
            below, others = _primary(entry, folders)
            groups, keys = {**below, **groups}, [*others, *keys]
    return groups, keys


def _groups(primary: DictConfig) -> dict[str, str | None]:
    """Return {group: option} of a defaults list such as ``[{data: quickstart}, _self_]``."""
    entries = primary.get("defaults") or []
    return {
        str(group): option
        for entry in entries
        if isinstance(entry, DictConfig)
        for group, option in entry.items()
    }


def _hydra(
    command: str, overrides: list[str], files: dict[str, Path], folders: Sequence[Path]
) -> DictConfig:
    try:
        with (
            searching(files, folders),
            initialize_config_dir(str(SHIPPED), version_base="1.3"),
        ):
            config = hydra_compose(command, overrides)
    except MissingConfigException as error:
        group, _, name = (error.missing_cfg_file or "").rpartition("/")
        known = options(group, folders)
        raise UsageError(
            f"a defaults list names {group}/{name}, which is no config"
            f"{hint(name, known, 'options')}"
        ) from error
    except HydraException as error:
        reason, _, _ = str(error.__cause__ or error).partition("Config search path:")
        raise UsageError(f"the configs don't compose: {reason.strip()}") from error
    OmegaConf.set_struct(config, False)
    return config


def _set_values(config: DictConfig, line: CommandLine) -> None:
    """Set the command line's values, and the one key that no file may set."""
    if config.get(ALLOW_TARGETS):
        raise UsageError(
            f"allow_targets is only for the command line, a file sets it to {config[ALLOW_TARGETS]}"
            ": a config from somebody else must not choose which code is called"
        )
    for key, value in [*line.values, (ALLOW_TARGETS, line.allow_targets)]:
        make_room(key, config)
        try:
            place, merge = beside_name(key, config), not isinstance(value, list)
            OmegaConf.update(config, place, value, merge=merge, force_add=True)
        except (OmegaConfBaseException, ValueError, AssertionError) as error:
            raise UsageError(f"{key}={value} can't be set: {_first_line(error)}") from error


def _resolved(config: DictConfig) -> dict[str, Any]:
    try:
        plain = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        where = getattr(error, "full_key", None) or "configuration"
        raise UsageError(f"{where} can't be resolved: {_first_line(error)}") from error
    return cast("dict[str, Any]", plain)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _pop_requirements(node: Any) -> dict[str, str]:
    """Take all ``_requires_: {package: extra}`` out of the configuration."""
    found: dict[str, str] = {}
    if isinstance(node, dict) and isinstance(node.get("_requires_"), dict):
        found |= node.pop("_requires_")
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    for child in children:
        found |= _pop_requirements(child)
    return found

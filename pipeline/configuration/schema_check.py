"""Check plain containers against the schema's dataclasses, and fill in their defaults."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import MISSING, Field, asdict, fields, is_dataclass
from pathlib import Path
from typing import Any

from pipeline.configuration.annotations import describe, fits, parse
from pipeline.configuration.schema import NODES
from pipeline.configuration.suggest import did_you_mean, listing, shown

UNSET = "???"  # what a YAML file writes for a value that the user must give


def schema_problems(
    kind: type[Any], node: Any, path: str = "", known: Sequence[str] = ()
) -> Iterator[str]:
    """Yield what is wrong with ``node``; defaults are filled in as it goes.

    Args:
        kind: the dataclass that describes the node.
        node: plain containers, changed in place.
        path: the node's key path, with a dot at its end unless it is the root.
        known: all key paths, to name the right one for a key in the wrong place.

    """
    if not isinstance(node, dict):
        yield f"{path[:-1]} must be a mapping of {listing(_names(kind))}, got {shown(node)}"
        return
    yield from _unknown(kind, node, path, known)
    for item in fields(kind):
        _fill(item, node)
        if item.name not in node:
            value = "OPTION" if item.type == "Component" else "VALUE"
            yield f"{path}{item.name} is missing; set {path}{item.name}={value}"
        elif node[item.name] != UNSET:
            yield from _value_problems(item, node, path)


def missing_values(node: Any, path: str = "") -> Iterator[str]:
    """Yield a problem for each value that is still ``???``."""
    if node == UNSET:
        yield f"{path} is missing; set {path}=VALUE"
    children = node.items() if isinstance(node, dict) else ()
    for key, value in children:
        yield from missing_values(value, f"{path}.{key}" if path else str(key))


def flatten(node: Any, path: str = "") -> Iterator[str]:
    """Yield the key path of every value."""
    for key, value in node.items():
        yield f"{path}{key}"
        if isinstance(value, dict):
            yield from flatten(value, f"{path}{key}.")


def _names(kind: type[Any]) -> list[str]:
    return [item.name for item in fields(kind)]


def _unknown(
    kind: type[Any], node: dict[str, Any], path: str, known: Sequence[str]
) -> Iterator[str]:
    names = _names(kind)
    for key, value in node.items():
        if key not in names:
            others = [*(f"{path}{name}" for name in names), *known]
            right = [other for other in others if not f"{other}.".startswith(f"{path}{key}.")]
            guess = did_you_mean(f"{path}{key}", right) or ";"
            yield f"unknown key {path}{key}={shown(value)}{guess} allowed: {listing(names)}"


def _fill(item: Field[Any], node: dict[str, Any]) -> None:
    if item.name in node:
        return
    if item.default is not MISSING:
        node[item.name] = item.default
    elif item.default_factory is not MISSING:
        node[item.name] = _plain(item.default_factory())


def _plain(value: Any) -> Any:
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


def _value_problems(item: Field[Any], node: dict[str, Any], path: str) -> Iterator[str]:
    value, annotation = node[item.name], str(item.type)
    where = f"{path}{item.name}"
    if annotation in NODES:
        yield from schema_problems(NODES[annotation], value, f"{where}.")
    elif annotation == "Component":
        yield from _choice_problems(value, where)
    elif annotation == "dict[str, Component]" and isinstance(value, dict):
        for name, choice in value.items():
            yield from _choice_problems(choice, f"{where}.{name}")
    elif not fits(value, parse(annotation), {}):
        yield f"{where} must be {describe(parse(annotation))}, got {shown(value)}"
    elif value is not None and "test" in item.metadata and not item.metadata["test"](value):
        yield f"{where} must be {item.metadata['rule']}, got {shown(value)}"
    elif isinstance(value, str) and "user_path" in item.metadata and value.startswith("~"):
        node[item.name] = str(Path(value).expanduser())


def _choice_problems(value: Any, where: str) -> Iterator[str]:
    choose = f"choose {where.replace('.', '/')}=OPTION"
    if not isinstance(value, dict):
        yield f"{where} must be an option of its group, got {shown(value)}; {choose}"
    elif "_target_" not in value and UNSET not in value.values():
        yield f"{where} has no _target_, got {shown(value)}; {choose}"

"""Rules for ``data``: names, data sets, tasks and splits that belong together."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

from pipeline.configuration.annotations import is_number
from pipeline.configuration.reserved_names import RESERVED
from pipeline.configuration.schema_check import UNSET
from pipeline.configuration.suggest import hint, listing, shown

MODALITIES = ("image", "text", "audio")
SPLITS = ("train", "valid", "test")
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
DATASET_KEYS = ("source", "inputs", "split")
TASK_KEYS = ("type", "dataset", "target")


def data_problems(data: Any, encoders: Any) -> Iterator[str]:
    """Yield what is wrong with the data sets and tasks, and with encoders for their inputs."""
    datasets, tasks = (_mapping(data, key) for key in ("datasets", "tasks"))
    for key, nodes in (("datasets", datasets), ("tasks", tasks)):
        if not nodes:
            yield f"data.{key} must name at least one, got {shown(nodes)}"
        yield from _name_problems(f"data.{key}", nodes)
    for name, node in datasets.items():
        yield from _dataset_problems(f"data.datasets.{name}", node, encoders)
    for name, node in tasks.items():
        yield from _task_problems(f"data.tasks.{name}", node, list(datasets))


def _mapping(node: Any, key: str) -> dict[str, Any]:
    value = node.get(key) if isinstance(node, dict) else None
    return value if isinstance(value, dict) else {}


def _name_problems(path: str, nodes: dict[str, Any]) -> Iterator[str]:
    for name in nodes:
        if not NAME.fullmatch(str(name)):
            yield f"{path}: a name is letters, digits and _, no digit first, got {shown(name)}"
        elif name in RESERVED or name.startswith("__"):
            yield f"{path}: {name!r} is reserved by PyTorch's containers; choose another name"


def _shape_problems(path: str, node: Any, required: tuple[str, ...], chooser: str) -> Iterator[str]:
    """Yield a problem for a node that isn't a mapping, lacks a key or has an unknown one."""
    if not isinstance(node, dict):
        yield f"{path} must be a mapping of {listing(required)}, got {shown(node)}"
        return
    for key in required:
        if key not in node:
            yield f"{path}.{key} is missing; set {path}.{key}=VALUE"
    chosen = node.get(chooser, UNSET)
    if chosen != UNSET and not (isinstance(chosen, dict) and "_target_" in chosen):
        yield f"{path}.{chooser} must be a name or a node with _target_, got {shown(chosen)}"
    for key, value in node.items():
        if key not in required:
            yield f"unknown key {path}.{key}={shown(value)}{hint(key, required, 'allowed')}"


def _dataset_problems(path: str, node: Any, encoders: Any) -> Iterator[str]:
    yield from _shape_problems(path, node, DATASET_KEYS, "source")
    if not isinstance(node, dict):
        return
    inputs, split = node.get("inputs", UNSET), node.get("split", UNSET)
    if isinstance(inputs, dict) and inputs:
        for modality, column in inputs.items():
            yield from _input_problems(f"{path}.inputs", modality, column, encoders)
    elif inputs != UNSET:
        yield f"{path}.inputs must be {{modality: column}}, got {shown(inputs)}"
    if split != UNSET:
        yield from split_problems(f"{path}.split", split)


def _input_problems(path: str, modality: str, column: Any, encoders: Any) -> Iterator[str]:
    if modality not in MODALITIES:
        yield (
            f"{path} has no modality {modality!r}{hint(str(modality), MODALITIES, 'modalities')}"
        )
    elif not _mapping({"encoder": encoders}, "encoder").get(modality):
        yield f"{path} uses {modality}, which has no encoder; choose encoder/{modality}=OPTION"
    if not isinstance(column, str):
        yield f"{path}.{modality} must be a column's name, got {shown(column)}"


def split_problems(path: str, split: Any) -> Iterator[str]:
    """Yield what is wrong with ``{column: name}`` or ``{train: f, valid: f, test: f}``."""
    if not isinstance(split, dict) or not split:
        yield (
            f"{path} must be {{column: NAME}} or fractions such as "
            f"{{train: 0.8, valid: 0.1, test: 0.1}}, got {shown(split)}"
        )
        return
    by_column = "column" in split
    allowed = ("column", "valid", "test") if by_column else SPLITS
    yield from (
        f"{path} has no key {key!r}{hint(str(key), allowed, 'allowed')}"
        for key in split
        if key not in allowed
    )
    if by_column and not isinstance(split["column"], str):
        yield f"{path}.column must be a column's name, got {shown(split['column'])}"
    yield from _fraction_problems(path, split, by_column)


def _fraction_problems(path: str, split: dict[str, Any], by_column: bool) -> Iterator[str]:
    fractions = {key: value for key, value in split.items() if key in SPLITS and value != UNSET}
    for key, value in fractions.items():
        if not is_number(value) or not 0 < value < 1:
            yield f"{path}.{key} must be a fraction in (0, 1), got {shown(value)}"
            return
    if by_column or UNSET in split.values():
        return
    if set(fractions) != set(SPLITS):
        yield f"{path} must give train, valid and test, got {listing(fractions)}"
    elif not math.isclose(sum(fractions.values()), 1.0, abs_tol=1e-6):
        yield f"{path} must sum to 1, got {shown(split)}, which sums to {sum(fractions.values()):g}"


def _task_problems(path: str, node: Any, datasets: list[str]) -> Iterator[str]:
    yield from _shape_problems(path, node, TASK_KEYS, "type")
    if not isinstance(node, dict):
        return
    target, dataset = node.get("target", UNSET), node.get("dataset", UNSET)
    if target is not None and not isinstance(target, str):
        yield f"{path}.target must be a column's name, got {shown(target)}"
    names = dataset if isinstance(dataset, list) else [dataset]
    if not names:
        yield f"{path}.dataset must name at least one data set, got []"
    for name in names:
        if name != UNSET and name not in datasets:
            yield (f"{path}.dataset names {name!r}{hint(str(name), datasets, 'data sets')}")

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
TASK_OPTIONAL = ("unseen", "unlabelled", "labels_of")
DATASET_OPTIONAL = ("streaming",)
SPLIT_KEYS = ("group", "stratify")


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


def _shape_problems(
    path: str, node: Any, required: tuple[str, ...], chooser: str, optional: tuple[str, ...] = ()
) -> Iterator[str]:
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
        if key not in required and key not in optional:
            allowed = dict.fromkeys([*required, *optional])
            yield f"unknown key {path}.{key}={shown(value)}{hint(key, allowed, 'allowed')}"


def _dataset_problems(path: str, node: Any, encoders: Any) -> Iterator[str]:
    yield from _shape_problems(path, node, DATASET_KEYS, "source", DATASET_OPTIONAL)
    if not isinstance(node, dict):
        return
    if not isinstance(node.get("streaming", False), bool):
        yield f"{path}.streaming must be true or false, got {shown(node['streaming'])}"
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
    elif not is_input(modality, column):
        yield f"{path}.{modality} must be {INPUT_FORMS[modality]}, got {shown(column)}"


INPUT_FORMS = {
    "text": "a column's name, or [two columns] for a pair of texts",
    "image": "a column's name",
    "audio": "a column's name, or {array: COLUMN, rate: COLUMN or samples a second}",
}


def is_input(modality: str, column: Any) -> bool:
    """Return whether a modality can be read from what is named."""
    if isinstance(column, str):
        return True
    if modality == "text":
        return _is_names(column) and len(column) == 2
    if modality == "audio" and isinstance(column, dict) and set(column) == {"array", "rate"}:
        is_rate = isinstance(column["rate"], str) or is_number(column["rate"])
        return isinstance(column["array"], str) and is_rate
    return False


def _is_names(value: Any) -> bool:
    """Return whether a value is a list of columns' names."""
    return isinstance(value, list) and bool(value) and all(isinstance(v, str) for v in value)


def split_problems(path: str, split: Any) -> Iterator[str]:
    """Yield what is wrong with {column: name}, {files: ...} or {train: f, valid: f, test: f}."""
    if not isinstance(split, dict) or not split:
        yield (
            f"{path} must be {{column: NAME}}, {{files: {{train: FILE, ...}}}} or fractions such "
            f"as {{train: 0.8, valid: 0.1, test: 0.1}}, got {shown(split)}"
        )
        return
    known = "column" in split or "files" in split
    allowed = (
        ("column", "values", "valid", "test", *SPLIT_KEYS)
        if "column" in split
        else ("files", "valid", "test", *SPLIT_KEYS)
        if known
        else (*SPLITS, *SPLIT_KEYS)
    )
    yield from (
        f"{path} has no key {key!r}{hint(str(key), allowed, 'allowed')}"
        for key in split
        if key not in allowed
    )
    for key in ("column", *SPLIT_KEYS):
        if split.get(key) is not None and not isinstance(split[key], str):
            yield f"{path}.{key} must be a column's name, got {shown(split[key])}"
    for key in ("files", "values"):
        if key in split:
            yield from _by_split_problems(f"{path}.{key}", split[key])
    if known and not any(split.get(name) for name in SPLITS):
        yield from (
            f"{path}.{key} says how rows are drawn, and here none are; leave it out, or draw a "
            "split: valid: 0.1"
            for key in SPLIT_KEYS
            if split.get(key)
        )
    yield from _fraction_problems(path, split, known)


def _by_split_problems(path: str, node: Any) -> Iterator[str]:
    """Yield what is wrong with {train: ..., valid: ..., test: ...}, of which two may lack."""
    if not isinstance(node, dict) or not node:
        yield f"{path} must be {{train: ..., valid: ..., test: ...}}, got {shown(node)}"
        return
    for key in node:
        if key not in SPLITS:
            yield f"{path} has no key {key!r}{hint(str(key), SPLITS, 'allowed')}"
    if "train" not in node:
        yield f"{path}.train is missing; the other splits can be drawn from it"
    given = [
        str(v) for value in node.values() for v in (value if isinstance(value, list) else [value])
    ]
    for twice in sorted({value for value in given if given.count(value) > 1}):
        yield f"{path} names {twice!r} twice; a row is in one split"


def _fraction_problems(path: str, split: dict[str, Any], known: bool) -> Iterator[str]:
    fractions = {key: value for key, value in split.items() if key in SPLITS and value != UNSET}
    alone = fractions.get("train") if len(fractions) == 1 else None
    if is_number(alone) and alone == 1 and not known:
        return  # rows for training only, without labels say
    for key, value in fractions.items():
        if not is_number(value) or not 0 < value < 1:
            yield f"{path}.{key} must be a fraction in (0, 1), got {shown(value)}"
            return
    if known or UNSET in split.values():
        return
    if set(fractions) != set(SPLITS):
        yield f"{path} must give train, valid and test, got {listing(fractions)}"
    elif not math.isclose(sum(fractions.values()), 1.0, abs_tol=1e-6):
        yield f"{path} must sum to 1, got {shown(split)}, which sums to {sum(fractions.values()):g}"


def _task_problems(path: str, node: Any, datasets: list[str]) -> Iterator[str]:
    if isinstance(node, dict) and "labels_of" in node:
        yield from _unlabelled_task_problems(path, node, datasets)
        return
    pairs = "modalities" in _mapping(node, "type")  # such a task needs no target
    required = tuple(key for key in TASK_KEYS if not (pairs and key == "target"))
    optional = (*TASK_OPTIONAL, *TASK_KEYS)
    yield from _shape_problems(path, node, required, "type", optional)
    if not isinstance(node, dict):
        return
    target, dataset = node.get("target", UNSET), node.get("dataset", UNSET)
    if target is not None and not _is_target(target):
        yield (
            f"{path}.target must be a column's name, a list of them, or {{data set: column}}, "
            f"got {shown(target)}"
        )
    if node.get("unseen", "error") not in ("error", "drop"):
        yield f"{path}.unseen must be one of error, drop, got {shown(node['unseen'])}"
    names = dataset if isinstance(dataset, list) else [dataset]
    if not names:
        yield f"{path}.dataset must name at least one data set, got []"
    yield from _unknown_datasets(f"{path}.dataset", names, datasets)
    yield from _unlabelled_problems(path, node, names, datasets)


def _unlabelled_task_problems(path: str, node: Any, datasets: list[str]) -> Iterator[str]:
    """Yield what is wrong with a task of another run that no data set has labels of."""
    optional = ("type", "unlabelled", "labels_of")
    yield from _shape_problems(path, node, optional, "type", optional)
    if not isinstance(node["labels_of"], str):
        yield f"{path}.labels_of must be a run or checkpoint, got {shown(node['labels_of'])}"
    given = node.get("unlabelled", [])
    names = given if isinstance(given, list) else [given]
    yield from _unknown_datasets(f"{path}.unlabelled", names, datasets)
    if not names:
        yield f"{path}.unlabelled must name the data sets that the task is asked about, got []"


def _unlabelled_problems(
    path: str, node: Any, labelled: list[Any], datasets: list[str]
) -> Iterator[str]:
    """Yield what is wrong with the data sets that a task has no labels in."""
    given = node.get("unlabelled", [])
    names = given if isinstance(given, list) else [given]
    yield from _unknown_datasets(f"{path}.unlabelled", names, datasets)
    for name in names:
        if name in labelled:
            yield f"{path}.unlabelled names {name!r}, which {path}.dataset names, too; choose one"
    if names and "target" not in node:
        yield f"{path}.unlabelled is for tasks with a target; leave it out"


def _unknown_datasets(path: str, names: list[Any], datasets: list[str]) -> Iterator[str]:
    for name in names:
        if name != UNSET and name not in datasets:
            yield f"{path} names {name!r}{hint(str(name), datasets, 'data sets')}"


def _is_target(target: Any) -> bool:
    """Return whether a target names columns, for all data sets alike or one by one."""
    if isinstance(target, dict):
        return bool(target) and all(isinstance(v, str) or _is_names(v) for v in target.values())
    return isinstance(target, str) or _is_names(target)

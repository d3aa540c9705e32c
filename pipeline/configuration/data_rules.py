"""Rules for ``data`` and ``tasks``: names, data sets, tasks and splits that belong together."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from datamodules.dataset_rules import (
    INPUT_FORMS,
    draws_rows,
    is_input,
    is_names,
    split_problems,
)
from pipeline.configuration.schema import UNSET
from pipeline.configuration.signatures import attribute_annotation
from pollinate.names import name_problem
from pollinate.suggest import hint, listing, shown
from pollinate.yaml_words import quotes_hint

MODALITIES = ("image", "text", "audio")
DATASET_KEYS = ("source", "inputs", "split")
TASK_KEYS = ("type", "dataset", "target")
TASK_OPTIONAL = ("unseen", "unlabelled", "labels_of")
DATASET_OPTIONAL = ("streaming",)


def data_problems(data: Any, encoders: Any) -> Iterator[str]:
    datasets, tasks = (_mapping(data, key) for key in ("datasets", "tasks"))
    for key, nodes in (("datasets", datasets), ("tasks", tasks)):
        if not nodes:
            yield f"data.{key} must name at least one, got {shown(nodes)}"
        yield from _name_problems(f"data.{key}", nodes)
    asked = prompted_datasets(tasks)
    for name, node in datasets.items():
        yield from _dataset_problems(f"data.datasets.{name}", node, encoders, name in asked)
    for name, node in tasks.items():
        yield from _task_problems(f"data.tasks.{name}", node, list(datasets))


def _mapping(node: Any, key: str) -> dict[str, Any]:
    value = node.get(key) if isinstance(node, dict) else None
    return value if isinstance(value, dict) else {}


def _name_problems(path: str, nodes: dict[str, Any]) -> Iterator[str]:
    for name in nodes:
        if problem := name_problem(name):
            yield f"{path}: {problem}"


def _shape_problems(
    path: str, node: Any, required: tuple[str, ...], chooser: str, optional: tuple[str, ...] = ()
) -> Iterator[str]:
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


def prompted_datasets(tasks: Mapping[str, Any]) -> set[str]:
    """Return the data sets of tasks that answer in words: they need not have inputs."""
    asked = [one for one in tasks.values() if "prompt" in _mapping(one, "type")]
    return {str(name) for one in asked for name in datasets_of(one)}


def _dataset_problems(path: str, node: Any, encoders: Any, asked: bool) -> Iterator[str]:
    optional = (*DATASET_OPTIONAL, *(("inputs",) if asked else ()))
    required = tuple(key for key in DATASET_KEYS if key not in optional)
    yield from _shape_problems(path, node, required, "source", optional)
    if not isinstance(node, dict):
        return
    if not isinstance(node.get("streaming", False), bool):
        yield f"{path}.streaming must be true or false, got {shown(node['streaming'])}"
    inputs, split = node.get("inputs", UNSET), node.get("split", UNSET)
    if isinstance(inputs, dict) and inputs:
        for modality, column in inputs.items():
            yield from _input_problems(f"{path}.inputs", modality, column, encoders)
    elif inputs != UNSET and not (asked and inputs == {}):
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
        advice = quotes_hint(column)
        yield f"{path}.{modality} must be {INPUT_FORMS[modality]}, got {shown(column)}{advice}"


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
            f"got {shown(target)}{quotes_hint(target)}"
        )
    if node.get("unseen", "refuse") not in ("refuse", "drop"):
        yield f"{path}.unseen must be one of refuse, drop, got {shown(node['unseen'])}"
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
        return bool(target) and all(isinstance(v, str) or is_names(v) for v in target.values())
    return isinstance(target, str) or is_names(target)


NAMING_TASKS = ("sampler", "balancer")  # whose options may name tasks or data sets


def chosen_problems(config: Mapping[str, Any]) -> Iterator[str]:
    chosen, data = config.get("tasks"), config.get("data")
    known = data.get("tasks") if isinstance(data, dict) else None
    if not isinstance(chosen, list) or not isinstance(known, dict):
        return
    if not chosen:
        yield "tasks must name at least one, or be null for all of them, got []"
    if len(set(map(str, chosen))) < len(chosen):
        yield f"tasks must differ, got {shown(chosen)}"
    for name in chosen:
        if name not in known:
            yield f"tasks names {name!r}{hint(str(name), known, 'tasks')}"


def name_strata(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``data`` in which every split that is drawn says by which columns it is stratified.

    They are the target of the data set's first task that has columns of labels, whichever tasks
    are chosen later: all runs on the same data then have the same rows. A data set of one task
    that has none is left to that task.
    """
    datasets = {}
    for name, spec in data["datasets"].items():
        split, tasks = spec["split"], data["tasks"].values()
        if draws_rows(split) and split.get("stratify") is None:
            targets = (label_columns(task, name) for task in tasks)
            columns: Any = next((one for one in targets if one is not None), [])
            if columns or sum(name in datasets_of(task) for task in tasks) > 1:
                spec = {**spec, "split": {**split, "stratify": columns}}
        datasets[name] = {"inputs": {}, **spec}  # those of prompts alone have none
    return {**data, "datasets": datasets}


def label_columns(task: Mapping[str, Any], dataset: str) -> str | list[str] | None:
    """Return a task's target in one data set, None if it has no columns of labels there."""
    target, labelled = task.get("target"), task.get("dataset") or []
    if target is None or dataset not in ([labelled] if isinstance(labelled, str) else labelled):
        return None
    if reads_maps(task["type"]["_target_"]):
        return None
    found: str | list[str] = target[dataset] if isinstance(target, dict) else target
    return found


def reads_maps(task: str) -> bool:
    """Say whether a type of task declares that its targets have a value for each pixel."""
    annotation = attribute_annotation(task, "maps")
    parts = ast.walk(annotation) if annotation is not None else ()
    nullable = any(isinstance(part, ast.Constant) and part.value is None for part in parts)
    return annotation is not None and not nullable


def keep_chosen_tasks(config: dict[str, Any]) -> dict[str, Any]:
    """Return a checked configuration with the chosen tasks, and the data sets that they need.

    What sampler, balancer and learning rates say of the others is left out, too.
    """
    chosen, data = config["tasks"], config["data"]
    if chosen is None:
        return config
    tasks = {name: spec for name, spec in data["tasks"].items() if name in chosen}
    needed = {name for spec in tasks.values() for name in datasets_of(spec)}
    datasets = {name: spec for name, spec in data["datasets"].items() if name in needed}
    gone = (data["tasks"].keys() - tasks.keys()) | (data["datasets"].keys() - needed)
    rest = {name: drop_names(config[name], gone) for name in NAMING_TASKS}
    scales = config["optimizer"].get("lr_scale") or {}
    left = modalities_of(data["datasets"]) - modalities_of(datasets)
    absent = {f"heads.{name}" for name in gone} | {f"encoders.{name}" for name in left}
    kept = {part: factor for part, factor in scales.items() if part not in absent}
    optimizer = {**config["optimizer"], "lr_scale": kept}
    new = {**data, "tasks": tasks, "datasets": datasets}
    return {**config, **rest, "optimizer": optimizer, "data": new}


def modalities_of(datasets: Mapping[str, Mapping[str, Any]]) -> set[str]:
    return {modality for spec in datasets.values() for modality in spec.get("inputs") or ()}


def datasets_of(spec: Mapping[str, Any]) -> list[str]:
    """Return the names of a task's data sets, also of those without labels."""
    given = [spec.get(key) or [] for key in ("dataset", "unlabelled")]
    return [name for names in given for name in ([names] if isinstance(names, str) else names)]


def drop_names(node: Any, names: Collection[str]) -> Any:
    """Return a node whose mappings lack these names; options of a class are kept."""
    if isinstance(node, list):
        return [drop_names(item, names) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: drop_names(value, names)
        for key, value in node.items()
        if "_target_" in node or key not in names
    }

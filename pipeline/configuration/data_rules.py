"""Rules for ``data`` and ``tasks``: names, data sets, tasks and splits that belong together."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from pipeline.configuration.schema import UNSET
from pipeline.configuration.signatures import is_number
from pollinate.suggest import hint, listing, shown

# all attributes of nn.ModuleDict and nn.ParameterDict: an entry of such a name raises KeyError.
# smart_apply is put there by transformers
RESERVED_NAMES = frozenset(
    """
    T_destination _apply _backward_hooks _backward_pre_hooks _buffers _call_impl
    _compiled_call_impl _forward_hooks _forward_hooks_always_called _forward_hooks_with_kwargs
    _forward_pre_hooks _forward_pre_hooks_with_kwargs _get_backward_hooks _get_backward_pre_hooks
    _get_name _is_full_backward_hook _key_to_attr _keys _load_from_state_dict
    _load_state_dict_post_hooks _load_state_dict_pre_hooks _maybe_warn_non_full_backward_hook
    _modules _named_members _non_persistent_buffers_set _parameters
    _register_load_state_dict_pre_hook _register_state_dict_hook _replicate_for_data_parallel
    _save_to_state_dict _slow_forward _state_dict_hooks _state_dict_pre_hooks _version
    _wrapped_call_impl add_module apply bfloat16 buffers call_super_init children clear compile
    copy cpu cuda double dump_patches eval extra_repr float forward fromkeys get get_buffer
    get_extra_state get_parameter get_submodule half ipu items keys load_state_dict modules mtia
    named_buffers named_children named_modules named_parameters parameters pop popitem
    register_backward_hook register_buffer register_forward_hook register_forward_pre_hook
    register_full_backward_hook register_full_backward_pre_hook register_load_state_dict_post_hook
    register_load_state_dict_pre_hook register_module register_parameter
    register_state_dict_post_hook register_state_dict_pre_hook requires_grad_ set_extra_state
    set_submodule setdefault share_memory smart_apply state_dict to to_empty train training type
    update values xpu zero_grad
    """.split()  # noqa: SIM905  # a list would have a line for each name
)


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
        elif name in RESERVED_NAMES or name.startswith("__"):
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
        yield f"{path} names {twice!r} twice; a row can be in only one split"


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


NAMING_TASKS = ("sampler", "balancer")  # whose options may name tasks or data sets


def chosen_problems(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with ``tasks``."""
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
    heads = {f"heads.{name}" for name in gone}
    kept = {part: factor for part, factor in scales.items() if part not in heads}
    optimizer = {**config["optimizer"], "lr_scale": kept}
    new = {**data, "tasks": tasks, "datasets": datasets}
    return {**config, **rest, "optimizer": optimizer, "data": new}


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

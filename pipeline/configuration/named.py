"""Replace what is chosen by name inside a config: sources, task types, torch optimizers.

``source: csv`` with its options beside it becomes ``source: {_target_: ..., path: ...}``, and
``type: classification`` becomes ``type: {_target_: ..., label_smoothing: 0.0}``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from pipeline.configuration.groups import find_option, options
from pipeline.configuration.suggest import hint
from pipeline.configuration.yaml_files import load_yaml
from pipeline.errors import UsageError

DATASET_KEYS = (
    "inputs",
    "split",
    "streaming",
)  # of the data set itself; all others go to its source
INNER_BALANCERS = ("balancer.losses", "balancer.method")
TASK_KEYS = ("dataset", "target", "unseen", "unlabelled", "labels_of")
BELOW_NAME = re.compile(
    r"(?P<chooser>(?P<node>data\.(tasks|datasets)\.[^.]+)\.(type|source))\.(?P<option>.+)"
)


# options beside a name: encoder.text.tune.rank of encoder.text.tune=lora
INSIDE_NAME = re.compile(
    r"(?P<node>balancer\.(losses|method)|encoder\.[^.]+\.tune|transfer\.(methods\.[^.]+|method))\..+"
)


def make_room(key: str, config: DictConfig) -> None:
    """Turn ``tune: lora`` into ``tune: {name: lora}`` before an option of it, ``key``, is set."""
    match = INSIDE_NAME.match(key)
    chosen = OmegaConf.select(config, match["node"], default=None) if match else None
    if match and isinstance(chosen, str):
        OmegaConf.update(config, match["node"], {"name": chosen}, merge=False)


def beside_name(key: str, config: DictConfig) -> str:
    """Return where an option's key stands before names are resolved.

    ``data.tasks.digit.type.label_smoothing`` is how the printed configuration shows the option;
    in the files it stands beside ``type: classification``.
    """
    match = BELOW_NAME.match(key)
    chosen = OmegaConf.select(config, match["chooser"], default=None) if match else None
    return f"{match['node']}.{match['option']}" if match and isinstance(chosen, str) else key


def resolve_named(config: DictConfig, folders: Sequence[Path]) -> None:
    """Resolve all names in place; a node of another shape is left for the schema to report."""
    _resolve_all(config, "data.datasets", "source", DATASET_KEYS, "source", folders)
    _resolve_all(config, "data.tasks", "type", TASK_KEYS, "task", folders)
    _resolve_augmentation(config, folders)
    for key in INNER_BALANCERS:
        _resolve_inner(config, key, "balancer", folders)
    for modality in _keys(config, "encoder"):
        _resolve_inner(config, f"encoder.{modality}.tune", "tune", folders)
    _resolve_transfers(config, "transfer", folders)
    _resolve_scores(config, folders)
    _resolve_optimizer(config)


def _resolve_transfers(config: DictConfig, key: str, folders: Sequence[Path]) -> None:
    """Resolve the methods inside a method, and those inside them."""
    inner = [f"{key}.methods.{name}" for name in _keys(config, f"{key}.methods")]
    inner += [f"{key}.method"] if "method" in _keys(config, key) else []
    for path in inner:
        _resolve_inner(config, path, "transfer", folders)
        _resolve_transfers(config, path, folders)


def _keys(config: DictConfig, path: str) -> list[str]:
    node = OmegaConf.select(config, path, default=None)
    return [str(key) for key in node] if isinstance(node, DictConfig) else []


def _resolve_inner(config: DictConfig, key: str, group: str, folders: Sequence[Path]) -> None:
    """Turn ``losses: uncertainty``, or ``losses: {name: uncertainty, ...}``, into that method."""
    node = OmegaConf.select(config, key, default=None)
    own = node.copy() if isinstance(node, DictConfig) and "name" in node else OmegaConf.create()
    name = own.pop("name", node)
    if isinstance(name, str):
        chosen = load_yaml(_file(key, name, group, folders))
        OmegaConf.update(config, key, OmegaConf.merge(chosen, own), merge=False, force_add=True)


def _resolve_scores(config: DictConfig, folders: Sequence[Path]) -> None:
    """Turn ``scores: {h_score: {shrinkage: 0.1}}``, or a list of names, into the methods."""
    key = "scores"
    if key not in config:
        return
    node = OmegaConf.select(config, key)
    given = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
    names = [given] if isinstance(given, str) else given
    if isinstance(names, list) and all(isinstance(name, str) for name in names):
        names = dict.fromkeys(names)
    if not names or not isinstance(names, dict):
        known = ", ".join(options("score", folders))
        raise UsageError(f"{key} must name some of {known}, such as [log_me,leep], got {given}")
    chosen = {
        name: OmegaConf.merge(load_yaml(_file(key, str(name), "score", folders)), own or {})
        for name, own in names.items()
    }
    OmegaConf.update(config, key, chosen, merge=False)


def _resolve_augmentation(config: DictConfig, folders: Sequence[Path]) -> None:
    """Turn ``image: {augment: flip}`` into the transform of that name."""
    key = "data.image.augment"
    name = OmegaConf.select(config, key, default=None)
    if isinstance(name, str):
        chosen = load_yaml(_file(key, name, "augment", folders))
        OmegaConf.update(config, key, chosen, force_add=True)


def _resolve_all(
    config: DictConfig,
    path: str,
    chooser: str,
    kept: tuple[str, ...],
    group: str,
    folders: Sequence[Path],
) -> None:
    nodes = OmegaConf.select(config, path)
    loaded = cache(load_yaml)  # data sets often share a source
    for name, node in nodes.items() if isinstance(nodes, DictConfig) else ():
        if not isinstance(node, DictConfig) or OmegaConf.is_missing(node, chooser):
            continue
        if isinstance(node.get(chooser), str):
            key = f"{path}.{name!s}.{chooser}"
            option = loaded(_file(key, node[chooser], group, folders))
            _expand(node, chooser, kept, option)


def _file(key: str, name: str, group: str, folders: Sequence[Path]) -> Path:
    file = find_option(group, name, folders)
    if file is None:
        known = options(group, folders)
        raise UsageError(f"{key} has no option {name!r}{hint(name, known, 'options')}")
    return file


def _expand(node: DictConfig, chooser: str, kept: tuple[str, ...], option: DictConfig) -> None:
    """Move the node's options under ``chooser``, over the values of the chosen YAML file."""
    own = OmegaConf.create({k: v for k, v in node.items_ex(resolve=False) if k != chooser})
    merged = OmegaConf.merge(option, own)
    assert isinstance(merged, DictConfig)
    for key in list(node):
        del node[key]
    items = dict(merged.items_ex(resolve=False))
    node[chooser] = {key: value for key, value in items.items() if key not in kept}
    for key in kept:
        if key in items:
            node[key] = items[key]
    files = OmegaConf.select(node, "split.files", default=None)
    if files is not None and OmegaConf.is_missing(node[chooser], "path"):
        node[chooser]["path"] = files  # the source reads what the split says


def _resolve_optimizer(config: DictConfig) -> None:
    """Turn ``optimizer: {name: RMSprop}`` into ``_target_: torch.optim.RMSprop``."""
    node = OmegaConf.select(config, "optimizer")
    if not isinstance(node, DictConfig) or "_target_" in node or "name" not in node:
        return
    if not OmegaConf.is_missing(node, "name"):
        node["_target_"] = f"torch.optim.{node.pop('name')}"

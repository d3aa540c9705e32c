"""``tasks=[a,b]``: train some of the data's tasks only."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from pipeline.configuration.suggest import hint, shown

NAMING = ("sampler", "balancer")  # whose options may name tasks or data sets


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


def only_chosen(config: dict[str, Any]) -> dict[str, Any]:
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
    rest = {name: without(config[name], gone) for name in NAMING}
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


def without(node: Any, names: Collection[str]) -> Any:
    """Return a node whose mappings lack these names; options of a class are kept."""
    if isinstance(node, list):
        return [without(item, names) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: without(value, names)
        for key, value in node.items()
        if "_target_" in node or key not in names
    }

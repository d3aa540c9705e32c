"""A configuration of several members becomes an ensemble."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from datamodules.modalities.base import Modality
from lightning_modules.ensemble import Ensemble
from lightning_modules.network import MultiTaskNetwork
from lightning_modules.tasks.base import Task
from pipeline.building.network import build_network
from pipeline.building.tasks import task_datasets

Config = Mapping[str, Any]
MEMBERS = "members"  # key of an ensemble's configuration


def build_ensemble(
    config: Config, tasks: Mapping[str, Task], modalities: Mapping[str, Modality]
) -> Ensemble:
    """Return the networks of an ensemble, each with its own tasks; all weights are a checkpoint's.

    Args:
        config: a configuration with ``members``, whose keys stand in place of its own.
        tasks: {name: task}.
        modalities: {name: modality}.
    """
    data, members = config["data"], []
    for own in config[MEMBERS]:
        datasets = {name: data["datasets"][name] for name in own["datasets"]}
        used = {modality for spec in datasets.values() for modality in spec["inputs"]}
        specs = {name: data["tasks"][name] for name in own["tasks"]}
        rest = {key: value for key, value in config.items() if key != MEMBERS}
        members.append(
            build_network(
                {**rest, **own, "data": {**data, "datasets": datasets, "tasks": specs}},
                {name: tasks[name] for name in own["tasks"]},
                {name: item for name, item in modalities.items() if name in used},
            )
        )
    routes = {name: task_datasets(spec) for name, spec in data["tasks"].items()}
    return Ensemble(members, tasks, routes)


def build_own(
    config: Config, tasks: Mapping[str, Task], modalities: Mapping[str, Modality], new: bool = False
) -> MultiTaskNetwork:
    """Return the network, or the ensemble of them, without sources; see ``build_network``."""
    if MEMBERS in config:
        return build_ensemble(config, tasks, modalities)
    return build_network(config, tasks, modalities, new)

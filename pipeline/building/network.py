"""A configuration becomes one network: encoders, fusions, trunk and heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from datamodules.modalities.base import Modality
from lightning_modules.encoders.base import Encoder
from lightning_modules.encoders.pretrained import PretrainedEncoder
from lightning_modules.fusions.base import Fusion
from lightning_modules.network import MultiTaskNetwork, combination
from lightning_modules.tasks.base import Task
from lightning_modules.trunks.base import Routes
from lightning_modules.tuning.base import Tuning
from pipeline.building.tasks import task_datasets
from pipeline.errors import UsageError
from pipeline.instantiate import instantiate

Config = Mapping[str, Any]
TUNE = "tune"  # key of an encoder's node that is no option of its class


def build_network(
    config: Config,
    tasks: Mapping[str, Task],
    modalities: Mapping[str, Modality],
    new: bool = False,
) -> MultiTaskNetwork:
    """Return one network without sources; tasks and modalities have their vocabularies.

    Args:
        config: a composed configuration.
        tasks: {name: task}.
        modalities: {name: modality}.
        new: whether pre-trained weights are loaded, which no checkpoint will replace.

    Raises:
        UsageError: there is no encoder for a modality.
    """
    allow = config["allow_targets"]
    encoders, tunings = {}, {}
    routes = {name: task_datasets(spec) for name, spec in config["data"]["tasks"].items()}
    for name, modality in modalities.items():
        if name not in config["encoder"]:
            raise UsageError(f"encoder.{name} is missing; choose one with encoder/{name}=NAME")
        arguments = modality.encoder_arguments()
        node = {k: v for k, v in config["encoder"][name].items() if k != TUNE}
        encoder = instantiate(node, allow, f"encoder.{name}", **arguments)
        if new and isinstance(encoder, PretrainedEncoder):
            encoder.load()
        chosen = config["encoder"][name].get(TUNE)
        if chosen is not None:
            own = tasks_reading(name, config["data"]["datasets"], routes)
            tunings[name] = tune(encoder, chosen, own, allow, f"encoder.{name}.{TUNE}")
        encoders[name] = encoder
    trunk = instantiate(config["trunk"], allow, "trunk", tasks=list(tasks))
    heads = {name: task.head(config["dim"]) for name, task in tasks.items()}
    views = {name: task.view for name, task in tasks.items()}
    fusions = build_fusions(config)
    return MultiTaskNetwork(encoders, trunk, heads, routes, fusions, views, tunings)


def tasks_reading(modality: str, datasets: Config, routes: Routes) -> list[str]:
    """Return the tasks that are predicted from rows of a modality."""
    return [
        task
        for task, names in routes.items()
        if any(modality in datasets[name]["inputs"] for name in names)
    ]


def tune(
    encoder: Encoder, node: Config, tasks: Sequence[str], allow: Sequence[str], key: str
) -> Tuning:
    """Choose how much of an encoder, which the given tasks read, trains."""
    tuning: Tuning = instantiate(node, allow, key)
    try:
        tuning.apply(encoder, tasks)
    except UsageError as error:
        raise UsageError(f"{key}: {error}") from error
    return tuning


def build_fusions(config: Config) -> dict[str, Fusion]:
    """Return {combination of modalities: how they become one vector}, for rows of several."""
    combinations = {
        tuple(sorted(spec["inputs"]))
        for spec in config["data"]["datasets"].values()
        if len(spec["inputs"]) > 1
    }
    allow = config["allow_targets"]
    return {
        combination(names): instantiate(config["fusion"], allow, "fusion", modalities=names)
        for names in sorted(combinations)
    }

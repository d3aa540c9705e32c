"""Builds tasks, modalities, networks and ensembles from a configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from datamodules.modalities.audio import AudioModality
from datamodules.modalities.base import Modality
from datamodules.modalities.image import ImageModality
from datamodules.modalities.text import TextModality
from lightning_modules.encoders.base import Encoder, PretrainedEncoder
from lightning_modules.ensemble import Ensemble
from lightning_modules.fusions.base import Fusion
from lightning_modules.network import HeadInput, MultiTaskNetwork, RestoresHeadInput, combination
from lightning_modules.task_network import TaskNetwork
from lightning_modules.tasks.base import Task
from lightning_modules.trunks.base import Routes
from lightning_modules.tuning.base import Tuning
from pollinate.errors import UsageError
from pollinate.instantiate import find_target, instantiate

Config = Mapping[str, Any]


def build_tasks(config: Config) -> dict[str, Task]:
    """Return {name: task}, without vocabulary yet."""
    allow = config["allow_targets"]
    return {
        name: instantiate(spec["type"], allow, f"data.tasks.{name}.type")
        for name, spec in config["data"]["tasks"].items()
    }


def task_datasets(spec: Config) -> tuple[str, ...]:
    """Return the names of a task's data sets, those without labels last."""
    return (*names_in(spec.get("dataset", ())), *names_in(spec.get("unlabelled", ())))


def names_in(given: str | Sequence[str]) -> tuple[str, ...]:
    """Return what a user gave as one name, or as several."""
    return (given,) if isinstance(given, str) else tuple(given)


MODALITIES: dict[str, type[Modality]] = {
    "audio": AudioModality,
    "image": ImageModality,
    "text": TextModality,
}


def build_modalities(
    config: Config,
    tasks: Mapping[str, Task],
    learnt: Mapping[str, Any] | None = None,
    tokenizer: str | None = None,
) -> dict[str, Modality]:
    """Return {modality: how its raw values become tensors} for those that the data have.

    Args:
        config: a composed configuration.
        tasks: what the data are for.
        learnt: of the run to go on with, which knows what its encoders brought along.
        tokenizer: content of a tokenizer.json that a new run takes over; None: it trains its own.
    """
    used = {m for spec in config["data"]["datasets"].values() for m in spec["inputs"]}
    missing = sorted(used - set(MODALITIES))
    if missing:
        raise UsageError(
            f"data uses the modalities {', '.join(missing)}; supported are {', '.join(MODALITIES)}"
        )
    words = any(task.view.words for task in tasks.values())
    known: dict[str, dict[str, Any]] = {"text": {"words": words}}  # what only a run knows
    node = config["data"]["image"].get("augment") if "image" in used else None
    if node is not None:
        transform = instantiate(node, config["allow_targets"], "data.image.augment")
        known["image"] = {"augment": transform}
    if "text" in used:
        known["text"]["tokenizer"] = tokenizer
    for name in used:
        found = pretrained_assets(config, name, learnt)
        if found:
            known.setdefault(name, {})["brought"] = found
    return {
        name: MODALITIES[name](**{**config["data"][name], **known.get(name, {})})
        for name in sorted(used)
    }


def pretrained_assets(
    config: Config, modality: str, learnt: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return what a modality's encoder brings along, empty for one that isn't pre-trained.

    Data are also loaded where no encoder is chosen, to be inspected.

    Args:
        config: a composed configuration.
        modality: whose encoder.
        learnt: of the run to go on with, None: a new one, whose model is asked.
    """
    if learnt is not None:
        return dict(learnt["modalities"][modality].get("brought", {}))
    node, key = config.get("encoder", {}).get(modality), f"encoder.{modality}"
    if node is None:
        return {}
    kind = find_target(node["_target_"], config["allow_targets"], key)
    return kind.brings(node) if issubclass(kind, PretrainedEncoder) else {}


def restore_vocabularies(
    config: Config, tasks: Mapping[str, Task], learnt: Config
) -> tuple[Mapping[str, Task], dict[str, Modality]]:
    """Return tasks and modalities with the vocabularies that a run learnt."""
    modalities = build_modalities(config, tasks, learnt)
    for name, task in tasks.items():
        task.load_state_dict(learnt["tasks"][name])
    for name, modality in modalities.items():
        modality.load_state_dict(learnt["modalities"][name])
    return tasks, modalities


TUNE = "tune"  # key of an encoder's node that is no option of its class


def build_network(
    config: Config,
    tasks: Mapping[str, Task],
    modalities: Mapping[str, Modality],
    new: bool = False,
    head_input: Config | None = None,
) -> MultiTaskNetwork:
    """Return one network; tasks and modalities have their vocabularies.

    Args:
        config: a composed configuration.
        tasks: {name: task}.
        modalities: {name: modality}.
        new: whether pre-trained weights are loaded, which no checkpoint will replace.
        head_input: the node of what stands between trunk and heads in a checkpoint; None: nothing.

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
            own = tasks_of_modality(name, config["data"]["datasets"], routes)
            tunings[name] = apply_tuning(encoder, chosen, own, allow, f"encoder.{name}.{TUNE}")
        encoders[name] = encoder
    trunk = instantiate(config["trunk"], allow, "trunk", tasks=list(tasks))
    heads = {name: task.head(config["dim"]) for name, task in tasks.items()}
    views = {name: task.view for name, task in tasks.items()}
    fusions = build_fusions(config)
    network = MultiTaskNetwork(encoders, trunk, heads, routes, fusions, views, tunings)
    if head_input is not None:
        network.head_input = restore_head_input(head_input, allow)
    return network


HEAD_INPUT = "head_input"  # key of what a checkpoint says of the network's ``HeadInput``


def restore_head_input(node: Config, allow: Sequence[str]) -> HeadInput:
    """Return what stood between trunk and heads in training, with any weights.

    Raises:
        UsageError: the node names no class that can do so.
    """
    kind = find_target(node["_target_"], allow, HEAD_INPUT)
    if not issubclass(kind, RestoresHeadInput):
        raise UsageError(
            f"{HEAD_INPUT}._target_ must name a class that restores what stands between trunk and "
            f"heads, got {node['_target_']}"
        )
    return kind.restore_head_input({k: v for k, v in node.items() if k != "_target_"}, allow)


def tasks_of_modality(modality: str, datasets: Config, routes: Routes) -> list[str]:
    """Return the tasks that are predicted from rows of a modality."""
    return [
        task
        for task, names in routes.items()
        if any(modality in datasets[name]["inputs"] for name in names)
    ]


def apply_tuning(
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
                head_input=own.get(HEAD_INPUT),
            )
        )
    routes = {name: task_datasets(spec) for name, spec in data["tasks"].items()}
    return Ensemble(members, tasks, routes)


def build_model(
    config: Config,
    tasks: Mapping[str, Task],
    modalities: Mapping[str, Modality],
    head_input: Config | None = None,
) -> TaskNetwork:
    """Return the network of a checkpoint, or the ensemble of them, whose weights it will be given.

    Args:
        config: a composed configuration.
        tasks: {name: task}, with vocabularies, as the modalities.
        modalities: {name: modality}.
        head_input: as for ``build_network``; an ensemble's configuration says it of each member.

    Raises:
        UsageError: there is no encoder for a modality.
    """
    if MEMBERS in config:
        return build_ensemble(config, tasks, modalities)
    return build_network(config, tasks, modalities, head_input=head_input)

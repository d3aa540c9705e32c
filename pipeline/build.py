"""The only place that turns a configuration into objects."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from datamodules.cache import Cache, default_cache
from datamodules.loading import DatasetSpec, TaskSpec
from datamodules.mixed import LoaderOptions, MixedDataModule, Policy
from datamodules.modalities.audio import AudioModality
from datamodules.modalities.base import Modality
from datamodules.modalities.image import ImageModality
from datamodules.modalities.text import TextModality
from lightning_modules.balancers.base import Balancer
from lightning_modules.encoders.base import Encoder
from lightning_modules.encoders.pretrained import PretrainedEncoder
from lightning_modules.ensemble import Ensemble
from lightning_modules.fusions.base import Fusion
from lightning_modules.multitask import MultiTaskModule, Optimization
from lightning_modules.network import MultiTaskNetwork, combination
from lightning_modules.tasks.base import Task
from lightning_modules.transfer.borrower import LEARNT
from lightning_modules.transfer.borrowing import Borrowing
from lightning_modules.transfer.lender import Lender
from lightning_modules.transfer.library import rebuilt
from lightning_modules.trunks.base import Routes
from lightning_modules.tuning.base import Tuning
from pipeline.errors import UsageError
from pipeline.instantiate import find_target, instantiate
from pipeline.spec import FORMAT
from pipeline.taken_over import labels_of, tokenizer_of
from pipeline.tracking.redact import redact
from pipeline.version import VERSION

Config = Mapping[str, Any]
MEMBERS = "members"  # key of an ensemble's configuration
TUNE = "tune"  # key of an encoder's node that is no option of its class
MODALITIES: dict[str, type[Modality]] = {
    "audio": AudioModality,
    "image": ImageModality,
    "text": TextModality,
}


def build_modalities(
    config: Config, tasks: Mapping[str, Task], learnt: Mapping[str, Any] | None = None
) -> dict[str, Modality]:
    """Return {modality: how its raw values become tensors} for those that the data have.

    Args:
        config: a composed configuration.
        tasks: what the data are for.
        learnt: of the run to go on with, which knows what its encoders brought along.
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
        chosen = learnt is None and config["data"]["text"].get("tokenizer")
        known["text"]["tokenizer"] = tokenizer_of(config) if chosen else None
    for name in used:
        found = brought(config, name, learnt)
        if found:
            known.setdefault(name, {})["brought"] = found
    return {
        name: MODALITIES[name](**{**config["data"][name], **known.get(name, {})})
        for name in sorted(used)
    }


def brought(config: Config, modality: str, learnt: Mapping[str, Any] | None) -> dict[str, Any]:
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


def build_datamodule(config: Config, learnt: Mapping[str, Any] | None = None) -> MixedDataModule:
    """Return the data module, not yet set up.

    Args:
        config: a composed configuration of the fit command.
        learnt: vocabularies and tokenizer of the run to go on with.
    """
    allow = config["allow_targets"]
    datasets = {}
    for name, spec in config["data"]["datasets"].items():
        source = instantiate(spec["source"], allow, f"data.datasets.{name}.source")
        streaming = bool(spec.get("streaming"))
        datasets[name] = DatasetSpec(source, spec["inputs"], spec["split"], streaming)
    tasks = build_tasks(config)
    specs = {
        name: TaskSpec(
            tasks[name],
            task_datasets(spec),
            spec.get("target"),
            spec.get("unseen") == "drop",
            names_in(spec.get("unlabelled", ())),
            labels_of(config, name) if learnt is None and "labels_of" in spec else None,
        )
        for name, spec in config["data"]["tasks"].items()
    }
    return MixedDataModule(
        datasets,
        specs,
        build_modalities(config, tasks, learnt),
        instantiate(config["sampler"], allow, "sampler"),
        config["seed"],
        config["data"]["seed"],
        LoaderOptions(config["loader"]["workers"], config["loader"]["pin_memory"]),
        learnt,
        build_policy(config["data"]),
        config.get("labels", 1.0),  # a run of an earlier version says nothing of it
    )


def build_policy(data: Config) -> Policy:
    """Return what to do about faults of the data; what a data file leaves out has a default."""
    cache = data.get("cache")
    return Policy(
        skip_bad_rows=data.get("on_bad_row") == "skip",
        strict=bool(data.get("strict")),
        cache=Cache(Path(cache)) if cache else Cache(default_cache()),
    )


def build_network(
    config: Config,
    tasks: Mapping[str, Task],
    modalities: Mapping[str, Modality],
    new: bool = False,
    borrowed: Config | None = None,
) -> MultiTaskNetwork:
    """Return the network; tasks and modalities have their vocabularies.

    Args:
        config: a composed configuration.
        tasks: {name: task}.
        modalities: {name: modality}.
        new: whether pre-trained weights are loaded, which no checkpoint will replace.
        borrowed: what the checkpoint says of sources in the network, if there are any.

    Raises:
        UsageError: there is no encoder for a modality.
    """
    if MEMBERS in config:
        return build_ensemble(config, tasks, modalities)
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
    network = MultiTaskNetwork(encoders, trunk, heads, routes, fusions, views, tunings)
    if borrowed is not None:
        network.borrowing = build_borrowing(borrowed, allow)
    return network


def build_borrowing(known: Config, allow: Sequence[str]) -> Borrowing:
    """Return the sources inside a network, whose weights are in the network's checkpoint.

    Args:
        known: what the run said of them that took them in.
        allow: packages, besides our own, whose classes may be named.
    """
    lenders = {name: Lender(build_source(one, allow)) for name, one in known["lenders"].items()}
    mixers = {
        task: instantiate(node, allow, f"transfer, mixer of {task}")
        for task, node in known["mixers"].items()
    }
    return Borrowing(lenders, mixers)


def build_source(known: Config, allow: Sequence[str]) -> MultiTaskNetwork:
    """Return a source's network from what ``described`` returned, without its weights."""
    if "config" not in known:
        return rebuilt(known)
    config = {**known["config"], "allow_targets": list(allow)}
    tasks = build_tasks(config)
    return build_network(config, *restored(config, tasks, known["learnt"]))


def restored(
    config: Config, tasks: Mapping[str, Task], learnt: Config
) -> tuple[Mapping[str, Task], dict[str, Modality]]:
    """Return tasks and modalities with the vocabularies that a run learnt."""
    modalities = build_modalities(config, tasks, learnt)
    for name, task in tasks.items():
        task.load_state_dict(learnt["tasks"][name])
    for name, modality in modalities.items():
        modality.load_state_dict(learnt["modalities"][name])
    return tasks, modalities


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


def build_optimization(config: Config) -> Optimization:
    """Return how the weights move."""
    options = {k: v for k, v in config["optimizer"].items() if k not in ("_target_", "lr_scale")}
    kind: Callable[..., Optimizer] = find_target(
        config["optimizer"]["_target_"], config["allow_targets"], "optimizer"
    )
    return Optimization(
        optimizer=partial(kind, **options),
        schedule=instantiate(config["schedule"], config["allow_targets"], "schedule"),
        lr=options["lr"],
        lr_scale=config["optimizer"].get("lr_scale") or {},
        decay="weight_decay" in signature(kind).parameters,
        max_steps=config["trainer"].get("max_steps"),
    )


def build_balancer(config: Config, tasks: Sequence[str]) -> Balancer:
    """Return the balancer; a method inside it is built for the same tasks."""
    allow = config["allow_targets"]
    node = {
        name: instantiate(value, allow, f"balancer.{name}", tasks=tasks)
        if isinstance(value, Mapping) and "_target_" in value
        else value
        for name, value in config["balancer"].items()
    }
    balancer: Balancer = instantiate(node, allow, "balancer", tasks=tasks)
    return balancer


def build_module(config: Config, datamodule: MixedDataModule, load: bool = True) -> MultiTaskModule:
    """Return the module for a data module that is set up.

    Args:
        config: a composed configuration.
        datamodule: that is set up.
        load: whether a new run's pre-trained weights are loaded.
    """
    tasks = {name: spec.task for name, spec in datamodule.tasks.items()}
    allow = config["allow_targets"]
    resumed = datamodule.learnt or {}
    kept = {LEARNT: resumed[LEARNT]} if LEARNT in resumed else {}
    new = load and datamodule.learnt is None
    network = build_network(config, tasks, datamodule.modalities, new, kept.get(LEARNT))
    spec = {
        "format": FORMAT,
        "version": VERSION,
        "config": redact(config),
        "learnt": {**datamodule.learnt_state(), **kept},
    }
    module = MultiTaskModule(
        network,
        tasks,
        build_balancer(config, list(tasks)),
        instantiate(config["transfer"], allow, "transfer"),
        build_optimization(config),
        spec,
    )
    if config["compile"]:
        # a trunk's own forward sorts rows by task, which differs from step to step
        compile_parts([*network.encoders.values(), *network.trunk.called_parts()])
    return module


def compile_parts(parts: Sequence[nn.Module]) -> None:
    """Compile modules in place, for any number of rows; names of weights stay."""
    # a balancer, or a look at the gradients, goes through one graph several times
    torch._functorch.config.donated_buffer = False
    for part in parts:
        part.compile(dynamic=True)

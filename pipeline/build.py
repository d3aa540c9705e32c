"""The only place that turns a configuration into objects."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from datamodules.cache import Cache, default_cache
from datamodules.data_errors import DataErrorPolicy
from datamodules.loaders import LoaderOptions
from datamodules.loading import DatasetSpec, TaskSpec
from datamodules.mixed_datamodule import MixedDataModule
from lightning_modules.balancers.base import Balancer
from lightning_modules.building import (
    HEAD_INPUT,
    build_modalities,
    build_model,
    build_network,
    build_tasks,
    names_in,
    task_datasets,
)
from lightning_modules.checkpoints import SPEC_FORMAT
from lightning_modules.evaluation_module import EvaluationModule
from lightning_modules.module import MultiTaskModule
from lightning_modules.optimization import Optimization
from lightning_modules.tasks.base import as_task
from pipeline.find_checkpoint import inherited_labels, inherited_tokenizer
from pipeline.tracking.redact import redact
from pollinate.errors import UsageError
from pollinate.instantiate import find_target, instantiate
from pollinate.version import VERSION

Config = Mapping[str, Any]


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
            inherited_labels(config, name) if learnt is None and "labels_of" in spec else None,
        )
        for name, spec in config["data"]["tasks"].items()
    }
    return MixedDataModule(
        datasets,
        specs,
        build_modalities(config, tasks, learnt, None if learnt else named_tokenizer(config)),
        instantiate(config["sampler"], allow, "sampler"),
        config["seed"],
        config["data"]["seed"],
        LoaderOptions(config["loader"]["workers"], config["loader"]["pin_memory"]),
        learnt,
        build_policy(config["data"]),
        config.get("labels", 1.0),  # a run of an earlier version says nothing of it
    )


def named_tokenizer(config: Config) -> str | None:
    """Return the tokenizer that ``data.text.tokenizer`` names, if the data have texts."""
    data = config["data"]
    has_texts = any("text" in spec["inputs"] for spec in data["datasets"].values())
    return inherited_tokenizer(config) if has_texts and data["text"].get("tokenizer") else None


def build_policy(data: Config) -> DataErrorPolicy:
    """Return what to do about faults of the data; what a data file leaves out has a default."""
    cache = data.get("cache")
    return DataErrorPolicy(
        skip_bad_rows=data.get("on_bad_row") == "skip",
        strict=bool(data.get("strict")),
        cache=Cache(Path(cache)) if cache else Cache(default_cache()),
    )


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
    """Return the balancer; a method inside it is built for the same tasks.

    Raises:
        UsageError: a number among its options is infinite or NaN, or out of the method's range.
    """
    allow = config["allow_targets"]
    _require_finite("balancer", config["balancer"])
    node = {
        name: instantiate(value, allow, f"balancer.{name}", tasks=tasks)
        if isinstance(value, Mapping) and "_target_" in value
        else value
        for name, value in config["balancer"].items()
    }
    balancer: Balancer = instantiate(node, allow, "balancer", tasks=tasks)
    return balancer


def _require_finite(path: str, value: object) -> None:
    if isinstance(value, Mapping):
        for name, one in value.items():
            _require_finite(f"{path}.{name}", one)
    elif isinstance(value, float) and not math.isfinite(value):
        raise UsageError(f"{path} must be finite, got {value}")


def build_module(config: Config, datamodule: MixedDataModule, load: bool = True) -> MultiTaskModule:
    """Return the module for a data module that is set up.

    Args:
        config: a composed configuration.
        datamodule: that is set up.
        load: whether a new run's pre-trained weights are loaded.
    """
    tasks = {name: as_task(spec.task) for name, spec in datamodule.tasks.items()}
    allow = config["allow_targets"]
    resumed = datamodule.learnt or {}
    kept = {HEAD_INPUT: resumed[HEAD_INPUT]} if HEAD_INPUT in resumed else {}
    new = load and datamodule.learnt is None
    network = build_network(config, tasks, datamodule.modalities, new, kept.get(HEAD_INPUT))
    spec = {
        "format": SPEC_FORMAT,
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
        same_rows=datamodule.tasks_share_rows(),
    )
    if config["compile"]:
        # a trunk's own forward sorts rows by task, which differs from step to step
        compile_parts([*network.encoders.values(), *network.trunk.called_parts()])
    return module


def build_evaluation_module(config: Config, datamodule: MixedDataModule) -> EvaluationModule:
    """Return a module that only answers, for data that are set up with what a run learnt.

    Args:
        config: of the run, or of what several were merged to: an ensemble, say.
        datamodule: that is set up.
    """
    assert datamodule.learnt is not None
    tasks = {name: as_task(spec.task) for name, spec in datamodule.tasks.items()}
    head_input = datamodule.learnt.get(HEAD_INPUT)
    return EvaluationModule(build_model(config, tasks, datamodule.modalities, head_input), tasks)


def compile_parts(parts: Sequence[nn.Module]) -> None:
    """Compile modules in place, for any number of rows; names of weights stay."""
    # a balancer, or a look at the gradients, goes through one graph several times
    torch._functorch.config.donated_buffer = False
    for part in parts:
        part.compile(dynamic=True)

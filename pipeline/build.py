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
from datamodules.data_errors import DataErrorPolicy
from datamodules.dataset import Dataset
from datamodules.mixed_datamodule import MixedDataModule
from lightning_modules.building import (
    HEAD_INPUT,
    build_balancer,
    build_modalities,
    build_model,
    build_network,
    build_tasks,
)
from lightning_modules.checkpoints import SPEC_FORMAT
from lightning_modules.conformal.base import rows_needed
from lightning_modules.evaluation_module import EvaluationModule
from lightning_modules.module import MultiTaskModule
from lightning_modules.optimization import Optimization
from lightning_modules.tasks.base import as_task
from lightning_modules.wide_fit import fit_wide_paths
from pipeline.find_checkpoint import inherited_labels, inherited_tokenizer
from pipeline.tracking.redact import redact
from pollinate.instantiate import find_target, instantiate
from pollinate.version import VERSION

Config = Mapping[str, Any]


def build_datamodule(config: Config, learnt: Mapping[str, Any] | None = None) -> MixedDataModule:
    """Return the data module, not yet set up."""
    allow = config["allow_targets"]
    datasets = {}
    for name, spec in config["data"]["datasets"].items():
        source = instantiate(spec["source"], allow, f"data.datasets.{name}.source")
        datasets[name] = Dataset(
            source,
            inputs=spec["inputs"],
            split=spec["split"],
            streaming=bool(spec.get("streaming")),
        )
    tasks = build_tasks(config)
    for name, spec in config["data"]["tasks"].items():
        if learnt is None and "labels_of" in spec:
            tasks[name].known = inherited_labels(config, name)
    return MixedDataModule(
        datasets,
        tasks,
        instantiate(config["sampler"], allow, "sampler"),
        build_modalities(config, tasks, learnt, None if learnt else named_tokenizer(config)),
        config["seed"],
        config["data"]["seed"],
        workers=config["loader"]["workers"],
        pin_memory=config["loader"]["pin_memory"],
        label_fraction=config.get("label_fraction", 1.0),  # commands that only look have none
        hold_back=rows_held_back(config),
        policy=build_policy(config["data"]),
        learnt=learnt,
    )


def rows_held_back(config: Config) -> int:
    """Return how many validation rows with a label calibration needs for itself; 0: none.

    They are only taken from the choice of the best weights where a coverage is asked for.
    """
    coverage = config.get("coverage")
    return rows_needed(coverage) if coverage and wants_calibration(config) else 0


CALIBRATION, OFF = "calibration", "none"


def wants_calibration(config: Config) -> bool:
    """Say whether a run is calibrated; one from before there was the key isn't."""
    return bool(config.get(CALIBRATION, OFF) != OFF)


def named_tokenizer(config: Config) -> str | None:
    data = config["data"]
    has_texts = any("text" in spec["inputs"] for spec in data["datasets"].values())
    return inherited_tokenizer(config) if has_texts and data["text"].get("tokenizer") else None


def build_policy(data: Config) -> DataErrorPolicy:
    """Return what to do about faults of the data; what a data file leaves out has a default."""
    cache = data.get("cache")
    return DataErrorPolicy(
        skip_bad_rows=data.get("on_bad_row") == "skip",
        strict=bool(data.get("strict")),
        every_split=True,
        cache=Cache(Path(cache)) if cache else Cache(default_cache()),
    )


def build_optimization(config: Config) -> Optimization:
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


def build_module(config: Config, datamodule: MixedDataModule, load: bool = True) -> MultiTaskModule:
    """Return the module for a data module that is set up."""
    tasks = {name: as_task(task) for name, task in datamodule.tasks.items()}
    allow = config["allow_targets"]
    resumed = datamodule.learnt or {}
    kept = {HEAD_INPUT: resumed[HEAD_INPUT]} if HEAD_INPUT in resumed else {}
    new = load and datamodule.learnt is None
    network = build_network(config, tasks, datamodule.modalities, new, kept.get(HEAD_INPUT))
    if load:
        fit_wide_paths(network, tasks, datamodule)
    spec = model_spec(config, datamodule, kept)
    module = MultiTaskModule(
        datamodule,
        network=network,
        balancer=build_balancer(config, list(tasks)),
        transfer=instantiate(config["transfer"], allow, "transfer"),
        optimizer=build_optimization(config),
        spec=spec,
    )
    if config["compile"]:
        # a trunk's own forward sorts rows by task, which differs from step to step
        compile_parts([*network.encoders.values(), *network.trunk.called_parts()])
    return module


def model_spec(
    config: Config, datamodule: MixedDataModule, more: Config | None = None
) -> dict[str, Any]:
    """Return what a checkpoint says of its model; ``more``: what else was learnt."""
    return {
        "format": SPEC_FORMAT,
        "version": VERSION,
        "config": redact(config),
        "learnt": {**datamodule.learnt_state(), **(more or {})},
    }


def build_evaluation_module(config: Config, datamodule: MixedDataModule) -> EvaluationModule:
    """Return a module that only answers, for data that are set up with what a run learnt.

    Args:
        config: of the run, or of what several were merged to: an ensemble, say.
        datamodule: that is set up.
    """
    assert datamodule.learnt is not None
    tasks = {name: as_task(spec) for name, spec in datamodule.tasks.items()}
    head_input = datamodule.learnt.get(HEAD_INPUT)
    return EvaluationModule(build_model(config, tasks, datamodule.modalities, head_input), tasks)


def compile_parts(parts: Sequence[nn.Module]) -> None:
    """Compile modules in place, for any number of rows; names of weights stay."""
    # a balancer, or a look at the gradients, goes through one graph several times
    torch._functorch.config.donated_buffer = False
    for part in parts:
        part.compile(dynamic=True)

"""Trains students with a teacher for six steps; run once alone and once as two processes.

See ``tests.processes``.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch

from datamodules.mixed_datamodule import MixedDataModule
from datamodules.samplers.uniform import Uniform
from lightning_modules.module import MultiTaskModule
from lightning_modules.transfer.annealed import AnnealedTransfer
from lightning_modules.transfer.base import Transfer
from lightning_modules.transfer.decoupled import Decoupled
from lightning_modules.transfer.dist import Dist
from lightning_modules.transfer.gkd import GKD
from lightning_modules.transfer.hinton import Hinton
from tests.lightning_modules.transfer.helpers import (
    CPU,
    NamedSourceOpener,
    deterministic_data,
    teacher_source,
    texts_and_images,
)
from tests.processes import SGD, replicated, spread, whole
from tests.tiny import images, labels, multitask, task, texts, trainer
from tests.two_processes import make
from tests.writers import teacher, turned, writer

STEPS = 6
NAMES = ("hinton", "dist", "annealed", "upgrad, features", "upgrad, parameters", "bf16", "gkd")


def method_of(name: str) -> Transfer:
    if name == "dist":
        return Dist("teacher")
    if name == "annealed":
        return AnnealedTransfer(Decoupled({"a": "teacher", "b": "task:a"}))
    return Hinton("teacher")


def build(name: str, folder: Path) -> tuple[MultiTaskModule, MixedDataModule]:
    """Return student and data: a data set has no labels, and in one some rows lack pictures."""
    if name == "gkd":
        return build_writer(folder)
    unlabelled = task("all")
    unlabelled.datasets, unlabelled.unlabelled = ["all", "more"], ["more"]
    sets = {"all": texts_and_images(40, label=labels(40)), "more": texts(30)}
    tasks = {"a": unlabelled, "b": task("all", target="label")}
    data = deterministic_data(sets, tasks, folder.parent, sampler=Uniform(7, 2 * STEPS))
    seen = deterministic_data(
        {"all": images(24, label=labels(24))}, {"a": task("all"), "b": task("all")}, folder
    )
    words = deterministic_data(
        {"all": texts_and_images(40, label=labels(40))},
        {"a": task("all"), "b": task("all")},
        folder,
    )
    # one who reads pictures only leaves rows untaught; the other reads texts, too
    source = teacher_source(seen if name in ("hinton", "dist") else words)
    balancer, _, level = name.partition(", ")
    options: dict[str, Any] = {}
    if level:
        options["balancer"] = partial(make, balancer, level)
    if level == "features":  # which says something of tasks with the same rows
        tasks = {"a": task("all"), "b": task("all")}
        data = deterministic_data(
            {"all": sets["all"]}, tasks, folder.parent, sampler=Uniform(7, 2 * STEPS)
        )
    model = multitask(data, optimizer=SGD, **options)
    model.transfer = method_of(name)
    model.transfer.setup(model, data, NamedSourceOpener(teacher=source))
    model.transfer.prepare(CPU, lambda _: None)
    return model, data


def build_writer(folder: Path) -> tuple[MultiTaskModule, MixedDataModule]:
    """Return a student that draws some steps' answers itself, and its data."""
    sampler = Uniform(7, 2 * STEPS)
    model, data = writer(
        folder / "student", {"turned": turned()}, sampler=sampler, optimizer=SGD, lr=0.01
    )
    source = teacher(folder / "teacher", {"turned": turned()})
    model.transfer = GKD("teacher", on_policy=0.2, alpha=0.5)  # in steps 0, 2, 3 and 5
    model.transfer.setup(model, data, NamedSourceOpener(teacher=source))
    model.transfer.prepare(CPU, lambda _: None)
    return model, data


def train(name: str, folder: Path) -> None:
    """Train, with accumulation."""
    model, data = build(name, folder)
    fit = trainer(
        folder,
        max_epochs=-1,
        max_steps=STEPS,
        accumulate_grad_batches=2,
        precision="bf16-mixed" if name == "bf16" else "64-true",
        limit_val_batches=0,
        **spread(replicated),
    )
    if name != "bf16":
        fit.precision_plugin.convert_module(model)
    fit.fit(model, datamodule=data)
    if fit.is_global_zero:
        torch.save({"model": whole(model), "rows": model.progress.rows}, folder / f"{name}.pt")

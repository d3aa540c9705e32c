"""Trains every balancer for six steps; run once alone and once as two processes.

See ``tests.processes``.
"""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path
from typing import Any

import torch

from datamodules.mixed_datamodule import MixedDataModule
from datamodules.samplers.uniform import Uniform
from lightning_modules.balancers.base import Balancer
from lightning_modules.building import build_balancer
from lightning_modules.encoders.transformer import Transformer
from lightning_modules.fsdp2_strategy import FSDP2Strategy
from lightning_modules.module import MultiTaskModule
from lightning_modules.tuning.task_lora import TaskLoRA
from tests.processes import SGD, replicated, spread, whole
from tests.rows.balancers import BALANCERS
from tests.tiny import DIM, images, multitask, ready, task, texts, trainer

STEPS, EPOCH_STEPS = 6, 4  # of the optimizer, and of rows: three epochs, as some look two back
SHARDED = ("mgda, fsdp2", "trimmed_mean, fsdp2")  # whole parameters are nowhere
ROUTED = ("equal, task_lora", "upgrad, task_lora")
AHEAD = "auto_lambda, ahead"
ROWS = {row.option: row for row in BALANCERS}


def names() -> list[str]:
    """Every method on every level that it can work on; loss methods once."""
    found = []
    for row in BALANCERS:
        levels = getattr(row.kind(), "levels", ("auto",))
        chosen = [level for level in levels if level != "auto"] or ["losses"]
        found += [f"{row.option}, {level}" for level in chosen]
    return [*found, "pcgrad, bf16", AHEAD, *SHARDED, *ROUTED]


def make(name: str, level: str, tasks: Any) -> Balancer:
    node = ROWS[name].node()
    if level == "ahead":
        node["trial_lr"] = 0.1
    elif "level" in node:
        node["level"] = level
    return build_balancer({"balancer": node, "allow_targets": ()}, list(tasks))


@cache
def data(*, alike: bool, gaps: bool) -> MixedDataModule:
    """Odd batches of three tasks on two data sets.

    Args:
        alike: two tasks with the same rows, of which the features' level says something.
        gaps: some steps lack task b.
    """
    kinds: list[str | None] = ["p" if row % 3 else "q" for row in range(40)]
    if gaps:
        kinds = [kind if row % 5 == 0 else None for row, kind in enumerate(kinds)]
    sets = {"notes": texts(40, kind=kinds), "shapes": images(24)}
    tasks = {"a": task("notes"), "b": task("notes", target="kind"), "c": task("shapes")}
    if alike:
        del sets["shapes"], tasks["c"]
    return ready(sets, tasks, Uniform(7, EPOCH_STEPS), dropout=0.0)


def train(name: str, folder: Path) -> None:
    """Train, with clipping and accumulation."""
    option, _, level = name.partition(", ")
    precision = {"bf16": "bf16-mixed", "fsdp2": "32-true"}.get(level, "64-true")
    sharded = level == "fsdp2"
    routed = name in ROUTED
    level = {"bf16": "parameters", "fsdp2": "features", "task_lora": "auto"}.get(level, level)
    module = data(alike=level == "features", gaps=routed)
    model = multitask(module, balancer=partial(make, option, level), optimizer=SGD)
    if routed:
        route(model)
    fit = trainer(
        folder,
        max_epochs=-1,
        max_steps=STEPS,
        accumulate_grad_batches=2,
        gradient_clip_val=0.5,
        precision=precision,
        limit_val_batches=0,
        **spread(FSDP2Strategy if sharded else replicated),
    )
    if precision == "64-true":
        fit.precision_plugin.convert_module(model)
    fit.fit(model, datamodule=module)
    state = {"model": whole(model), "balancer": whole(model.balancer)}
    if fit.is_global_zero:
        torch.save(state, folder / f"{name}.pt")


def route(model: MultiTaskModule) -> None:
    """Give each task adapters of its own, and two of them a shared one."""
    torch.manual_seed(0)
    words = model.network.encoder("text").get_submodule("embedding").num_embeddings
    model.network.encoders["text"] = Transformer(int(words), DIM, depth=1, heads=2, dropout=0.0)
    TaskLoRA(rank=2, shared_rank=1).apply(model.network.encoder("text"), ["a", "b"])
    TaskLoRA(rank=2).apply(model.network.encoder("image"), ["c"])

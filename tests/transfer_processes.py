"""Trains methods of feature transfer for some steps; run once alone and once as two processes.

See ``tests.processes``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from datamodules.mixed_datamodule import MixedDataModule
from datamodules.samplers.uniform import Uniform
from lightning_modules.balancers.upgrad import UPGrad
from lightning_modules.module import MultiTaskModule
from lightning_modules.transfer.adaptors import Adaptors
from lightning_modules.transfer.attention_transfer import AttentionTransfer
from lightning_modules.transfer.base import Transfer
from lightning_modules.transfer.cka import CKA
from lightning_modules.transfer.hints import Hints
from lightning_modules.transfer.relational import Relational
from lightning_modules.transfer.several import Several
from lightning_modules.transfer.source_attention import SourceAttention
from lightning_modules.transfer.weighted_fusion import WeightedFusion
from tests.lightning_modules.transfer.helpers import SingleSourceOpener, source_of
from tests.processes import replicated, spread
from tests.tiny import images, multitask, ready, task, texts, trainer

STEPS = 6
SGD = partial(torch.optim.SGD, lr=0.05)
METHODS: dict[str, Callable[[], Transfer]] = {
    "row by row": lambda: Several(
        {
            "encoders": Hints("a", "sequence", ["text"]),
            "heads": Hints("a", "representation"),
            "tokens": AttentionTransfer("a", "sequence", ["text"]),
            "tasks": Adaptors({"a": "a", "c": "a"}),
        }
    ),
    "all rows": lambda: Several({"far": Relational("a"), "alike": CKA("a", "representation")}),
    "attention": lambda: SourceAttention({"one": "a", "two": "a"}),
    "weights": lambda: WeightedFusion({"one": "a", "two": "a"}, tasks=["a", "c"]),
}


def build(name: str, folder: Path) -> tuple[MultiTaskModule, MixedDataModule]:
    """Three tasks on two data sets; odd batches, and too few labels."""
    kinds = [None if row % 5 == 0 else "pq"[row % 3 == 0] for row in range(40)]
    data = {"notes": texts(40, kind=kinds), "shapes": images(24)}
    tasks = {"a": task("notes"), "b": task("notes", target="kind"), "c": task("shapes")}
    module = ready(data, tasks, Uniform(7, 2 * STEPS), dropout=0.0)
    model = multitask(module, balancer=partial(UPGrad, level="parameters"), optimizer=SGD)
    teacher = multitask(module)
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in teacher.parameters():
            weight *= 1 + torch.randn_like(weight)  # the embedding of padding stays 0
    model.transfer = METHODS[name]()
    model.transfer.setup(model, module, SingleSourceOpener(source_of(teacher, module)))
    return model, module


def train(name: str, folder: Path) -> None:
    """Train, with accumulation."""
    model, module = build(name, folder)
    fit = trainer(
        folder,
        max_epochs=-1,
        max_steps=STEPS,
        accumulate_grad_batches=2,
        precision="64-true",
        limit_val_batches=0,
        **spread(replicated),
    )
    fit.precision_plugin.convert_module(model)
    fit.fit(model, datamodule=module)
    gauges = {n: torch.tensor(value) for n, value in model.transfer.gauges().items()}
    if fit.is_global_zero:
        torch.save({"model": model.state_dict(), "gauges": gauges}, folder / f"{name}.pt")

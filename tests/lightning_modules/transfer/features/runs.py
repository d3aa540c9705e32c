"""Runs of some hundred weights, and the methods that compare their features."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from datamodules.mixed import MixedDataModule
from lightning_modules.multitask import MultiTaskModule
from lightning_modules.trace import Trace
from lightning_modules.transfer.adaptors import Adaptors
from lightning_modules.transfer.attention_transfer import AttentionTransfer
from lightning_modules.transfer.base import Transfer, TransferStep
from lightning_modules.transfer.cka import CKA
from lightning_modules.transfer.hints import Hints
from lightning_modules.transfer.relational import Relational
from tests.tiny import labels, multitask, ready, task, texts

Run = tuple[MultiTaskModule, MixedDataModule]

BOTH = {
    "datasets": {"notes": texts(kind=labels(40, "pqr"))},
    "tasks": {"mood": task("notes"), "kind": task("notes", target="kind")},
}


def run(seed: int, **options: Any) -> Run:
    data = ready(**options)
    module = multitask(data)
    torch.manual_seed(seed)
    for weight in module.parameters():
        with torch.no_grad():
            weight.add_(0.1 * torch.randn_like(weight))
    return module, data


def step_of(module: MultiTaskModule, data: MixedDataModule) -> TransferStep:
    batch, trace = next(iter(data.train_dataloader())), Trace()
    return TransferStep(batch, module.network(batch.batches, trace=trace), trace)


METHODS: dict[str, Callable[[], Transfer]] = {
    "hints": lambda: Hints("a"),
    "hints of tokens": lambda: Hints("a", "sequence", ["text"]),
    "hints of cells": lambda: Hints("a", "grid", ["image"]),
    "hints of heads": lambda: Hints("a", "representation"),
    "attention": lambda: AttentionTransfer("a", modalities=["image"]),
    "attention of tokens": lambda: AttentionTransfer("a", "sequence", ["text"]),
    "relational": lambda: Relational("a"),
    "relational of heads": lambda: Relational("a", "representation"),
    "cka": lambda: CKA("a"),
    "cka of heads": lambda: CKA("a", "representation"),
    "adaptors": lambda: Adaptors({"notes": "a", "shapes": "a"}),
}

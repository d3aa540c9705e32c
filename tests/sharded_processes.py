"""Trains with sharded weights; run once alone, whole, and once as two processes.

See ``tests.processes``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.distributed.tensor import DTensor

from datamodules.samplers.base import Sampler
from lightning_modules.building import build_balancer
from lightning_modules.fsdp2_strategy import FSDP2Strategy
from lightning_modules.module import MultiTaskModule
from lightning_modules.network import MultiTaskNetwork
from tests.processes import SGD, spread, whole
from tests.rows.groups import ROWS
from tests.tiny import DIM, Given, images, labels, multitask, ready, task, texts, trainer

STEPS = 4
BY_NAME = {row.name: row for row in ROWS}


@dataclass(frozen=True)
class ShardedCase:
    """A run; its weights after STEPS may differ from those of one process by ``atol``."""

    trunk: str = "shared"
    encoder: str = "transformer"
    balancer: str | Mapping[str, Any] = "equal"  # an option, or its configuration
    trainer: Mapping[str, Any] = field(default_factory=dict)
    rows: Mapping[str, int] = field(default_factory=lambda: {"notes": 5, "shapes": 2})
    atol: float = 1e-5
    dropout: float = 0.0


CASES = {
    "weights of its own": ShardedCase(balancer="uncertainty", trainer={"gradient_clip_val": 0.5}),
    "clipped by value": ShardedCase(
        trainer={"gradient_clip_val": 0.01, "gradient_clip_algorithm": "value"}
    ),
    "losses after the step": ShardedCase(balancer="famo"),
    "penalty of weights": ShardedCase(trunk="soft_sharing", trainer={"gradient_clip_val": 0.5}),
    "penalty of layers": ShardedCase(trunk="sluice"),
    "a part that isn't called": ShardedCase(trunk="task_queries"),
    "gates and experts": ShardedCase(trunk="ple"),
    "recurrent": ShardedCase(encoder="gru"),
    "a rank without rows": ShardedCase(rows={"notes": 1, "shapes": 1}),
    "a step without a task": ShardedCase(rows={"notes": 3, "shapes": 0}),
    "bf16-mixed": ShardedCase(trainer={"precision": "bf16-mixed"}, atol=0.02),
    "bf16-true": ShardedCase(trainer={"precision": "bf16-true"}, atol=0.02),
}


def build(case: ShardedCase, sampler: Sampler) -> tuple[MultiTaskModule, Any]:
    """Return module and data: three tasks, a third of the texts without a label of one."""
    kinds = [None if row % 3 == 0 else label for row, label in enumerate(labels(40))]
    data = ready(
        {"notes": texts(40, kind=kinds), "shapes": images(24)},
        {"a": task("notes"), "b": task("notes", target="kind"), "c": task("shapes")},
        sampler,
        dropout=case.dropout,
    )
    node = case.balancer
    if isinstance(node, str):
        node = BY_NAME[f"balancer/{node}"].node()
    balancer = partial(_balancer, node)
    module = multitask(data, balancer=balancer, optimizer=SGD)
    torch.manual_seed(0)
    text = BY_NAME[f"encoder/text/{case.encoder}"].build(
        dim=DIM, dropout=case.dropout, **data.modalities["text"].encoder_arguments()
    )
    options = {"dim": DIM, "dropout": case.dropout, "tasks": list(data.tasks)}
    trunk = BY_NAME[f"trunk/{case.trunk}"].build(**options)
    old = module.network
    module.network = MultiTaskNetwork(
        {"text": text, "image": old.encoder("image")}, trunk, old.heads, old.routes
    )
    module = MultiTaskModule(
        tasks=module.tasks,
        network=module.network,
        balancer=module.balancer,
        transfer=module.transfer,
        optimizer=module.optimization,
        spec={},
    )
    return module, data


def _balancer(node: Any, tasks: Any) -> Any:
    return build_balancer({"balancer": node, "allow_targets": ()}, list(tasks))


def train(name: str, folder: Path) -> None:
    """Train one case, with accumulation."""
    case = CASES[name]
    module, data = build(case, Given(case.rows, 2 * STEPS))
    options = spread(FSDP2Strategy)
    fit = trainer(
        folder,
        max_epochs=-1,
        max_steps=STEPS,
        accumulate_grad_batches=2,
        limit_val_batches=2,
        **case.trainer,
        **options,
    )
    fit.fit(module, datamodule=data)
    weights = list(module.network.parameters())
    pieces = [p for p in weights if isinstance(p, DTensor)]
    assert bool(pieces) == bool(options)
    if pieces:
        assert sum(p.numel() for p in pieces) > 0.9 * sum(p.numel() for p in weights)
    state = {"model": whole(module), "balancer": whole(module.balancer)}
    if fit.is_global_zero:
        torch.save(state, folder / f"{name}.pt")

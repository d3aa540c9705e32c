"""Exchanges tensors and scores; run once alone and once as two processes.

See ``tests.processes``.
"""

from __future__ import annotations

import os
from pathlib import Path
from unittest.mock import patch

import torch
from torch import Tensor, distributed

from lightning_modules import distributed as ours
from lightning_modules.metrics import EvaluationMetrics
from lightning_modules.tasks.multilabel import Multilabel
from lightning_modules.tasks.regression import Regression

NAMES = ("tensors", "scores")


def tensors(rank: int) -> list[Tensor]:
    """What a rank sends: of other shapes, and of another type where it has no rows."""
    empty = torch.tensor([])
    return [
        torch.tensor(rank + 0.5, dtype=torch.float64),
        torch.tensor([rank == 0, True, False]),
        torch.arange(6, dtype=torch.int16).view(2, 3).T + rank,
        torch.arange(5 * rank) if rank else empty,
        torch.full((3, rank), 7.0, dtype=torch.bfloat16),
        torch.arange(40.0).view(8, 5) * rank,
    ]


def scores(rank: int, world: int) -> dict[str, dict[str, float]]:
    """Scores of two tasks, of one of which the second of two ranks has no rows."""
    tasks = {"price": Regression(), "marks": Multilabel()}
    tasks["price"].learn([1.0, 2.0, 4.0])
    tasks["marks"].learn([["x", "y"], ["z"]])
    metrics = EvaluationMetrics(tasks)
    draws = torch.Generator().manual_seed(0)
    output, number = torch.randn(2, 12, generator=draws)
    logits, labels = torch.randn(7, 3, generator=draws), torch.rand(7, 3, generator=draws) > 0.5
    own = slice(rank, None, world)
    metrics.update("price", output[own], number[own])
    if rank == 0:
        metrics.update("marks", logits, labels.float())
    return metrics.take()[0]


def train(name: str, folder: Path) -> None:
    """Write FOLDER/<name>-<rank>.pt: tensors, or scores and by how many exchanges."""
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if world > 1 and not distributed.is_initialized():
        distributed.init_process_group("gloo")
    found: object = None
    if name == "scores":
        with patch.object(distributed, "all_gather", wraps=distributed.all_gather) as exchange:
            found = scores(rank, world), exchange.call_count
    elif world > 1:
        with patch.object(ours, "BUCKET_BYTES", 64):
            found = list(ours.gather_tensors(tensors(rank)))
    torch.save(found, folder / f"{name}-{rank}.pt")

"""Trains with stock loaders and stock DDP; run once alone and once as two processes.

``python -m tests.ordinary_processes FOLDER NAME...``; see ``tests.processes``.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities.warnings import PossibleUserWarning
from torch.utils.data import DataLoader, DistributedSampler

from tests.lightning_modules.test_ordinary import Item, Rows, stock
from tests.processes import run_cases
from tests.tiny import multitask, ready

WORLD = int(os.environ.get("WORLD_SIZE", "1"))
MISSING = {"notes": (3, 9, 11), "shapes": (1, 4, 5, 6, 7)}  # the second step has no shape's label


def loaders() -> dict[str, DataLoader[Item]]:
    """Loaders whose processes together take four rows a step, in order."""
    rank, found = int(os.environ.get("RANK", "0")), {}
    for name, missing in MISSING.items():
        rows = Rows(name, missing=missing)
        share = DistributedSampler(rows, WORLD, rank, shuffle=False)
        found[name] = DataLoader(rows, 4 // WORLD, sampler=share)
    return found


def train(name: str, folder: Path) -> None:
    """Train an epoch, validate, and save what came of it."""
    warnings.filterwarnings("error", message=".*sync_dist.*", category=PossibleUserWarning)
    data = ready(dropout=0.0)
    module = multitask(data)
    strategy, _, own = name.partition(" of ")
    spread: dict[str, Any] = {"strategy": strategy, "devices": WORLD} if WORLD > 1 else {}
    trainer = stock(folder, max_epochs=1, **spread)
    given: dict[str, Any] = {"train_dataloaders": loaders(), "val_dataloaders": loaders()}
    trainer.fit(module, **({"datamodule": data} if own else given))
    found = {
        "weights": module.state_dict(),
        "rows": module.progress.rows,
        "valid": {n: float(v) for n, v in trainer.callback_metrics.items() if "valid/" in n},
    }
    if trainer.is_global_zero:
        torch.save(found, folder / f"{name}.pt")


if __name__ == "__main__":
    run_cases(train)

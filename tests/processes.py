"""Trainings that are run once alone and once as two processes.

A module has ``train(name, folder)``, which writes FOLDER/<name>.pt; processes are told of
each other by the environment, as a launcher would.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.strategies import DDPStrategy, Strategy
from torch import nn
from torch.distributed.tensor import DTensor

from pipeline.command import HARMLESS_WARNINGS
from tests.sessions import ask

SGD = partial(torch.optim.SGD, lr=0.05, momentum=0.9)


def replicated() -> Strategy:
    """Each process has all weights."""
    return DDPStrategy(find_unused_parameters=True, process_group_backend="gloo")


def spread(strategy: Callable[[], Strategy]) -> dict[str, Any]:
    """Options of a trainer over the processes that there are; none for one alone."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    return {"strategy": strategy(), "devices": world} if world > 1 else {}


def whole(module: nn.Module) -> dict[str, torch.Tensor]:
    """Return the state with every sharded tensor put together; all processes take part."""
    return {
        name: value.full_tensor() if isinstance(value, DTensor) else value
        for name, value in module.state_dict().items()
    }


def alone_and_both(module: str, names: Sequence[str], root: Path) -> tuple[Path, Path]:
    """Train a module's cases alone and as two processes; return both folders."""
    folders = root / "one", root / "two"
    for folder in folders:
        folder.mkdir()
    codes = ask({"cases": module, "cwd": str(root), "names": list(names)})
    assert codes == [0, 0], "".join(path.read_text() for path in sorted(root.glob("*.log")))
    return folders


def run_cases(train: Callable[[str, Path], None], folder: Path, names: Sequence[str]) -> None:
    """Train the named cases, one after the other."""
    warnings.filterwarnings("error", message=r".*torch\.distributed.* is deprecated")
    for message, _ in HARMLESS_WARNINGS:
        warnings.filterwarnings("ignore", message=message)
    for name in names:
        train(name, folder)

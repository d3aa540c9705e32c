"""A file of tests as a command, run once alone and once as two processes.

``python -m tests.NAME FOLDER NAME...`` writes FOLDER/<name>.pt for each case; processes are told of
each other by the environment, as a launcher would.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
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
from tests.sessions import ROOT

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
    """Run ``python -m MODULE FOLDER NAME...`` alone and as two processes; return both folders."""

    def start(folder: str, **environment: str) -> subprocess.Popen[str]:
        (root / folder).mkdir(exist_ok=True)
        return subprocess.Popen(
            [sys.executable, "-m", module, str(root / folder), *names],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        )

    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    run = {"MASTER_ADDR": "localhost", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    # as torchrun would, whose own process is left out here
    run |= {"TORCHELASTIC_RUN_ID": "test", "GROUP_RANK": "0", "LOCAL_WORLD_SIZE": "2"}
    processes = [start("two", RANK=rank, LOCAL_RANK=rank, **run) for rank in ("0", "1")]
    processes.append(start("one"))
    try:
        for process in processes:
            output, _ = process.communicate(timeout=600)
            assert process.returncode == 0, output
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    return root / "one", root / "two"


def run_cases(train: Callable[[str, Path], None]) -> None:
    """Train the cases named on the command line, one after the other."""
    folder = Path(sys.argv[1])
    warnings.filterwarnings("error", message=r".*torch\.distributed.* is deprecated")
    for message, _ in HARMLESS_WARNINGS:
        warnings.filterwarnings("ignore", message=message)
    for name in sys.argv[2:]:
        train(name, folder)

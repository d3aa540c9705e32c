"""Every balancer trains in two processes as it does in one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.sessions import ROOT
from tests.two_processes import names

pytestmark = pytest.mark.slow
ROUNDED = {"pcgrad, bf16": 0.02}  # {name: tolerance}; all others are trained in 64 bits


def start(folder: Path, **environment: str) -> subprocess.Popen[str]:
    folder.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-m", "tests.two_processes", str(folder), *names()],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folders of one process and of two."""
    root = tmp_path_factory.mktemp("balancers")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    whole = {"MASTER_ADDR": "localhost", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    # as torchrun would, whose own process is left out here
    torchrun = {"TORCHELASTIC_RUN_ID": "test", "GROUP_RANK": "0", "LOCAL_WORLD_SIZE": "2"}
    ranks = [
        start(root / "two", RANK=rank, LOCAL_RANK=rank, **whole, **torchrun) for rank in ("0", "1")
    ]
    alone = start(root / "one")
    try:
        for process in (*ranks, alone):
            output, _ = process.communicate(timeout=600)
            assert process.returncode == 0, output
    finally:
        for process in (*ranks, alone):
            process.kill()
            process.communicate()
    return root / "one", root / "two"


def load(folder: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(folder / f"{name}.pt", weights_only=True)
    return found


@pytest.mark.parametrize("name", names())
def test_two_processes_end_with_the_weights_of_one(name: str, trained: tuple[Path, Path]) -> None:
    one, two = (load(folder, name) for folder in trained)
    for part in ("model", "balancer"):
        assert one[part].keys() == two[part].keys()
        for key, value in one[part].items():
            atol = ROUNDED.get(name, 1e-5)
            other = two[part][key]
            assert torch.allclose(value.double(), other.double(), 0, atol, equal_nan=True), key

"""Weights in pieces on two processes move as whole ones do in one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.processes import alone_and_both
from tests.sharded_processes import CASES

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folders of one process and of two."""
    return alone_and_both(
        "tests.sharded_processes", list(CASES), tmp_path_factory.mktemp("sharded")
    )


@pytest.mark.parametrize("name", CASES)
def test_two_processes_end_with_the_weights_of_one(name: str, trained: tuple[Path, Path]) -> None:
    one, two = (torch.load(folder / f"{name}.pt", weights_only=True) for folder in trained)
    for part in ("model", "balancer"):
        assert one[part].keys() == two[part].keys()
        for key, value in one[part].items():
            other = two[part][key]
            assert value.dtype == other.dtype
            assert torch.allclose(value.double(), other.double(), 0, CASES[name].atol, True), key

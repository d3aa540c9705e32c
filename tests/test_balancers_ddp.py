"""Every balancer trains in two processes as it does in one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.processes import alone_and_both
from tests.two_processes import names

pytestmark = pytest.mark.slow
ROUNDED = {"pcgrad, bf16": 0.02}  # {name: tolerance}; all others are trained in 64 bits


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folders of one process and of two."""
    return alone_and_both("tests.two_processes", names(), tmp_path_factory.mktemp("balancers"))


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

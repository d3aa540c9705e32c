"""Feature transfer in two processes does as it does in one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.processes import alone_and_both
from tests.transfer_processes import METHODS

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folders of one process and of two."""
    root = tmp_path_factory.mktemp("transfer")
    return alone_and_both("tests.transfer_processes", list(METHODS), root)


@pytest.mark.parametrize("name", METHODS)
def test_two_processes_end_with_the_weights_of_one(name: str, trained: tuple[Path, Path]) -> None:
    one, two = (torch.load(folder / f"{name}.pt", weights_only=True) for folder in trained)
    for part in ("model", "gauges"):
        assert one[part].keys() == two[part].keys()
        for key, value in one[part].items():
            other = two[part][key]
            assert torch.allclose(value.double(), other.double(), 0, 1e-5, equal_nan=True), key

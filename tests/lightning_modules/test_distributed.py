"""What processes exchange, and in how many exchanges."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.gathering_processes import NAMES, tensors
from tests.processes import alone_and_both


@pytest.fixture(scope="module")
def exchanged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folders of one process and of two."""
    root = tmp_path_factory.mktemp("gathering")
    return alone_and_both("tests.gathering_processes", NAMES, root)


@pytest.mark.parametrize("rank", [0, 1])
def test_tensors_of_any_shape_and_type_are_gathered(
    rank: int, exchanged: tuple[Path, Path]
) -> None:
    found = torch.load(exchanged[1] / f"tensors-{rank}.pt", weights_only=True)
    expected = zip(tensors(0), tensors(1), strict=True)
    for own, pair in zip(found, expected, strict=True):
        assert [one.dtype for one in own] == [one.dtype for one in pair]
        assert all(torch.equal(one, other) for one, other in zip(own, pair, strict=True))


def test_all_metrics_of_all_tasks_are_exchanged_at_once(exchanged: tuple[Path, Path]) -> None:
    alone, _ = torch.load(exchanged[0] / "scores-0.pt", weights_only=True)
    assert set(alone) == {"price", "marks"} and len(alone["marks"]) > 3
    for rank in (0, 1):
        found, exchanges = torch.load(exchanged[1] / f"scores-{rank}.pt", weights_only=True)
        assert exchanges == 1
        for task, own in alone.items():
            assert found[task] == pytest.approx(own, rel=1e-5)

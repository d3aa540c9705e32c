"""Weights that are mapped from a checkpoint, and given back."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from lightning_modules.checkpoints import read_mapped, write_checkpoint
from pipeline.merging.parents import WeightsFile

MEGABYTES = 64


def resident() -> float:
    """Return the MB of files that this process has in memory."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("RssFile:")[1].split()[0]) / 1024


@pytest.mark.skipif(sys.platform != "linux", reason="it looks into /proc")
def test_what_was_looked_at_is_given_back_and_reads_the_same_again(tmp_path: Path) -> None:
    """The file's pages are in memory after a look, and no longer after the next call."""
    path = tmp_path / "large.ckpt"
    value = torch.arange(MEGABYTES << 18, dtype=torch.float32)
    write_checkpoint({"state_dict": {"network.a": value, "other": torch.ones(1)}}, path)
    weights = WeightsFile(path, read_mapped(path))
    state = weights()
    assert list(state) == ["a"]
    before = resident()
    assert torch.equal(state["a"], value)
    assert resident() - before > 0.9 * MEGABYTES
    again = weights()
    assert resident() - before < 0.1 * MEGABYTES
    assert torch.equal(again["a"], value)
    assert torch.equal(state["a"], value)


def test_an_empty_tensor_takes_nothing(tmp_path: Path) -> None:
    """There are no pages to give back."""
    path = tmp_path / "empty.ckpt"
    write_checkpoint({"state_dict": {"network.a": torch.zeros(0)}}, path)
    weights = WeightsFile(path, read_mapped(path))
    assert weights()["a"].shape == weights()["a"].shape == (0,)

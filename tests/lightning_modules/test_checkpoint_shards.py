"""Checkpoints in shards: put together, refused, deleted; nothing is executed."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_modules.checkpoints import (
    SHARDS,
    CorruptCheckpointError,
    consolidate_shards,
    read_checkpoint,
    remove_unused_shards,
    shard_name,
    split_off_shard,
    verify_checkpoint,
    write_atomically,
)
from pollinate.errors import PollinateError

ROWS = torch.arange(10.0).view(5, 2)


def write(path: Path, save: str = "0a", sizes: tuple[int, ...] = (3, 2)) -> list[Path]:
    """A checkpoint of one weight, whose rows lie in as many shards as there are sizes."""
    names = [shard_name(save, rank, len(sizes)) for rank in range(len(sizes))]
    for name, own in zip(names, ROWS.split(list(sizes)), strict=True):
        write_atomically({"tensors": {"/state_dict/w": own.clone()}}, path.parent / SHARDS / name)
    weights = {"w": torch.empty(5, 2, device="meta"), "b": torch.ones(1)}
    write_atomically({"state_dict": weights, SHARDS: names, "step": 7}, path)
    return [path.parent / SHARDS / name for name in names]


@pytest.mark.parametrize("sizes", [(3, 2), (5,), (2, 2, 1), (5, 0)])
def test_rows_are_put_together(sizes: tuple[int, ...], tmp_path: Path) -> None:
    write(tmp_path / "last.ckpt", sizes=sizes)
    found = read_checkpoint(tmp_path / "last.ckpt")
    assert found.keys() == {"state_dict", "step"}
    assert torch.equal(found["state_dict"]["w"], ROWS)
    assert torch.equal(found["state_dict"]["b"], torch.ones(1))


def test_what_isn_t_sharded_stays(tmp_path: Path) -> None:
    index, own = split_off_shard({"state_dict": {"b": torch.ones(1)}, "list": [1, (2, None)]})
    assert index == {"state_dict": {"b": torch.ones(1)}, "list": [1, (2, None)]}
    assert own == {}


def test_a_torn_or_absent_shard_is_named(tmp_path: Path) -> None:
    first, second = write(tmp_path / "last.ckpt")
    os.truncate(second, second.stat().st_size // 2)
    with pytest.raises(CorruptCheckpointError, match=f"{second.name} is torn or changed"):
        verify_checkpoint(tmp_path / "last.ckpt")
    first.unlink()
    with pytest.raises(CorruptCheckpointError, match=f"lacks its shard .*{first.name}"):
        verify_checkpoint(tmp_path / "last.ckpt")


@pytest.mark.parametrize("name", ["../../secret", "/etc/passwd", "0a-0-of-1.shard/..", 3])
def test_a_shard_elsewhere_is_refused(name: Any, tmp_path: Path) -> None:
    write_atomically({"state_dict": {}, SHARDS: [name]}, tmp_path / "last.ckpt")
    with pytest.raises(PollinateError, match=r"names shards that pipeline.fit didn't write"):
        read_checkpoint(tmp_path / "last.ckpt")


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def test_nothing_of_a_stranger_s_shard_is_executed(tmp_path: Path) -> None:
    first, _ = write(tmp_path / "last.ckpt")
    torch.save({"tensors": {"/state_dict/w": Evil(tmp_path / "made")}}, first)
    with pytest.raises(pickle.UnpicklingError):
        read_checkpoint(tmp_path / "last.ckpt")
    assert not (tmp_path / "made").exists()


def test_a_whole_checkpoint_needs_no_shards(tmp_path: Path) -> None:
    write(tmp_path / "best.ckpt")
    write(tmp_path / "last.ckpt", save="0b")
    consolidate_shards(tmp_path / "best.ckpt")
    assert torch.equal(read_checkpoint(tmp_path / "best.ckpt")["state_dict"]["w"], ROWS)
    left = sorted(path.name for path in (tmp_path / SHARDS).iterdir())
    assert left == ["0b-0-of-2.shard", "0b-1-of-2.shard"]


def test_shards_stay_while_a_checkpoint_can_t_be_read(tmp_path: Path) -> None:
    files = write(tmp_path / "last.ckpt")
    os.truncate(tmp_path / "last.ckpt", 50)
    remove_unused_shards(tmp_path)
    assert all(file.exists() for file in files)

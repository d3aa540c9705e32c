"""Checkpoints to which every process adds a file of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

from lightning.pytorch.strategies import ParallelStrategy
from torch import distributed

from pipeline.checkpoints import explained_write, remove_unused_shards, write_file
from pipeline.errors import PollinateError
from pipeline.shards import SHARDS, shard_name


def write_jointly(
    strategy: ParallelStrategy, index: dict[str, Any], own: dict[str, Any], filepath: Any
) -> None:
    """Write this process's shard; once all are there, rank 0 writes the file that names them.

    Args:
        strategy: of the processes, all of which take part.
        index: content of the checkpoint's own file; rank 0's counts.
        own: content of this process's shard.
        filepath: the checkpoint's own file; rank 0's counts.

    Raises:
        PollinateError: a process can't write; all processes raise it.
    """
    path, save = strategy.broadcast((Path(filepath), uuid4().hex))
    world = strategy.world_size
    names = [shard_name(save, rank, world) for rank in range(world)]
    _write(own, path.parent / SHARDS / names[strategy.global_rank], path, world)
    index = {**index, SHARDS: names}
    _write(index if strategy.is_global_zero else None, path, path, world)
    if strategy.is_global_zero:
        remove_unused_shards(path.parent)


def _write(content: dict[str, Any] | None, file: Path, path: Path, world: int) -> None:
    """Write a file of a checkpoint, if there is content; fail on all processes or none."""
    failure = None
    try:
        with explained_write(path):
            if content is not None:
                write_file(content, file)
    except PollinateError as error:
        failure = error
    failures: list[PollinateError | None] = [None] * world
    distributed.all_gather_object(failures, failure)
    first = next((one for one in failures if one is not None), None)
    if first is not None:
        raise failure or first

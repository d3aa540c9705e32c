"""Checkpoints of which every process writes its own part.

The checkpoint's own file is as any other, but holds in place of a sharded tensor one of the same
shape on torch's "meta" device, without values, and the names of its shards. These lie beside it in
the folder ``shards``: rank 0's has the first rows of each tensor. A shard never changes and its
name never comes again, so that the one file decides what the checkpoint is, and can be replaced
and linked like any other.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, Shard

from pipeline.errors import PollinateError

SHARDS = "shards"  # name of the folder, and of the key that names the files
NAME = re.compile(r"[0-9a-f]+-[0-9]+-of-[0-9]+\.shard")  # a path out of the folder is none


def shard_name(save: str, rank: int, world: int) -> str:
    """Return the name of a process's file of one save, whose own name is hexadecimal."""
    return f"{save}-{rank}-of-{world}.shard"


def shard_files(checkpoint: Any, path: Path) -> list[Path]:
    """Return the shards of a checkpoint that was read from ``path``; none: it is whole.

    Raises:
        PollinateError: a name leads elsewhere.
    """
    names = checkpoint.get(SHARDS, []) if isinstance(checkpoint, dict) else []
    if not all(isinstance(name, str) and NAME.fullmatch(name) for name in names):
        raise PollinateError(f"{path} names shards that pipeline.fit didn't write: {names}")
    return [path.parent / SHARDS / name for name in names]


def take_apart(checkpoint: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return (the checkpoint without values of sharded tensors, {place: this process's rows})."""
    own: dict[str, Tensor] = {}

    def without(place: str, tensor: Tensor) -> Tensor:
        if not isinstance(tensor, DTensor):
            return tensor
        assert tensor.placements == (Shard(0),)
        own[place] = tensor.to_local().detach().to("cpu", copy=True)
        return torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")

    return mapped(dict(checkpoint), without), own


class Shards:
    """Reads the rows of tensors, wherever they lie.

    Args:
        files: shards of one save by rank; none: tensors have their values.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self._parts = [
            torch.load(file, map_location="cpu", mmap=True, weights_only=True)["tensors"]
            for file in files
        ]

    def filled(self, tree: Any, at: str = "", likes: Mapping[str, Tensor] | None = None) -> Any:
        """Return a part of a checkpoint with all values.

        Args:
            tree: nested dicts and lists, as ``take_apart`` left them.
            at: place of the tree in its checkpoint.
            likes: {place: a tensor of which each process holds its rows}; a tensor at that place,
                or one level below, of the same shape, is read and spread alike.
        """
        known = likes or {}

        def fill(place: str, tensor: Tensor) -> Tensor:
            like = known.get(place, known.get(place.rpartition("/")[0]))
            if isinstance(like, DTensor) and like.shape == tensor.shape:
                return self._piece(place, tensor, like)
            return self._rows(place, tensor, 0, len(tensor)) if tensor.is_meta else tensor

        return mapped(tree, fill, at)

    def _piece(self, place: str, tensor: Tensor, like: DTensor) -> DTensor:
        mesh = like.device_mesh
        rows = -(-len(tensor) // mesh.size())
        start = min(rows * mesh.get_local_rank(), len(tensor))
        own = self._rows(place, tensor, start, min(start + rows, len(tensor)))
        return DTensor.from_local(
            own.to(like.device),
            mesh,
            like.placements,
            run_check=False,
            shape=like.shape,
            stride=like.stride(),
        )

    def _rows(self, place: str, tensor: Tensor, start: int, stop: int) -> Tensor:
        """Return a copy of the rows [start, stop)."""
        if not tensor.is_meta:
            return tensor[start:stop].clone()
        found, first = [], 0
        for part in self._parts:
            own = part[place]
            found.append(own[max(start - first, 0) : max(stop - first, 0)])
            first += len(own)
        return torch.cat(found)


def mapped(tree: Any, function: Callable[[str, Tensor], Tensor], at: str = "") -> Any:
    """Apply a function of (place, tensor) to all tensors of nested dicts, lists and tuples."""
    if isinstance(tree, Tensor):
        return function(at, tree)
    if isinstance(tree, dict):
        return {key: mapped(value, function, f"{at}/{key}") for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(mapped(v, function, f"{at}/{i}") for i, v in enumerate(tree))
    return tree

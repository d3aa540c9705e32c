"""A checkpoint's weights, looked at part by part without filling the memory."""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from lightning_modules.averaging import State
from pipeline.prediction.predictor import PREFIX
from pipeline.shards import Shards, shard_files


class WeightsFile:
    """The network's weights in a checkpoint, looked at as often as one likes.

    Values are mapped from the file and come into memory when they are looked at; each call gives
    back what the calls before have brought there.

    Args:
        path: of the checkpoint, which mustn't change meanwhile.
        content: of the file, mapped from it.
    """

    def __init__(self, path: Path, content: Mapping[str, Any]) -> None:
        self._shards = shard_files(content, path)
        self._weights: State = content["state_dict"]

    def __call__(self) -> State:
        """Return {name in the network: tensor}, not to be changed."""
        if self._shards:  # put together in memory, which goes with what is returned
            return of_network(Shards(self._shards).filled(self._weights, "/state_dict"))
        give_back(self._weights.values())
        return of_network(self._weights)


def of_network(weights: State) -> State:
    """Return the network's part of a module's weights, by the network's own names."""
    return {k.removeprefix(PREFIX): v for k, v in weights.items() if k.startswith(PREFIX)}


def give_back(tensors: Iterable[Tensor]) -> None:
    """Let the system take back the pages of tensors that are all mapped from one file.

    They are read from the file again when they are looked at. Elsewhere than on Linux, where
    MADV_DONTNEED may mean something else, the system takes them when it needs them.
    """
    if sys.platform != "linux":
        return
    storages = [tensor.untyped_storage() for tensor in tensors if tensor.nbytes]
    if not storages:
        return
    start = min(storage.data_ptr() for storage in storages)
    stop = max(storage.data_ptr() + storage.nbytes() for storage in storages)
    start -= start % mmap.PAGESIZE  # the mapping itself begins at a page
    ctypes.CDLL(None).madvise(
        ctypes.c_void_p(start), ctypes.c_size_t(stop - start), mmap.MADV_DONTNEED
    )

"""The models that a merge starts from; their weights are read tensor by tensor."""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from lightning_modules.building import HEAD_INPUT, LINEAR, MEMBERS, MODEL
from lightning_modules.checkpoints import (
    ShardReader,
    checkpoint_fingerprint,
    read_mapped,
    require_training_config,
    shard_files,
    spec_in,
)
from lightning_modules.state_dicts import StateDict
from pipeline.find_checkpoint import run_folder_of_checkpoint
from pipeline.transfer_sources import network_weights
from pollinate.errors import PollinateError


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
        self._weights: StateDict = content["state_dict"]

    def __call__(self) -> StateDict:
        """Return {name in the network: tensor}, not to be changed."""
        if self._shards:  # put together in memory, which goes with what is returned
            return network_weights(ShardReader(self._shards).filled(self._weights, "/state_dict"))
        release_pages(self._weights.values())
        return network_weights(self._weights)


def release_pages(tensors: Iterable[Tensor]) -> None:
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


BASE = "the base"  # label of the common start


@dataclass(frozen=True)
class Parent:
    """A checkpoint that is merged.

    label: short, unlike the others'.
    path: of the checkpoint.
    run_id: of its MLflow run, None if that isn't known.
    checksum: of the checkpoint.
    spec: what it says of its model.
    weights: of its network.
    """

    label: str
    path: Path
    run_id: str | None
    checksum: str
    spec: dict[str, Any] = field(repr=False)
    weights: WeightsFile = field(repr=False)

    @property
    def config(self) -> dict[str, Any]:
        config: dict[str, Any] = self.spec["config"]
        return config

    @property
    def tasks(self) -> list[str]:
        return list(self.config["data"]["tasks"])

    @property
    def datasets(self) -> list[str]:
        return list(self.config["data"]["datasets"])

    @property
    def modalities(self) -> list[str]:
        datasets = self.config["data"]["datasets"].values()
        return sorted({modality for spec in datasets for modality in spec["inputs"]})

    @property
    def fuses(self) -> bool:
        return any(len(spec["inputs"]) > 1 for spec in self.config["data"]["datasets"].values())

    @property
    def head_input(self) -> dict[str, Any] | None:
        """What it says of what heads read in place of the trunk's rows, None if nothing."""
        known: dict[str, Any] | None = self.spec["learnt"].get(HEAD_INPUT)
        return known

    def record(self) -> dict[str, Any]:
        return {
            "label": self.label,
            "path": str(self.path),
            "run_id": self.run_id,
            "checksum": self.checksum,
            "tasks": self.tasks,
        }


def read_parents(
    paths: Sequence[Path], labels: Sequence[str] | None = None, combines: bool = False
) -> list[Parent]:
    """Check files and read what they say of their models.

    Args:
        paths: of checkpoints.
        labels: short names of theirs; None: of their folders or files.
        combines: whether the result holds the models as they are, so that any will do.

    Raises:
        PollinateError: one is torn, of another program or another format, or an ensemble whose
            weights can't be merged.
    """
    names = parent_labels(paths) if labels is None else labels
    return [read_parent(path, label, combines) for path, label in zip(paths, names, strict=True)]


def read_parent(path: Path, label: str, combines: bool = False) -> Parent:
    """Check a file and read what it says of its model; see ``read_parents``."""
    content = read_mapped(path)
    spec = spec_in(content, path)
    if MEMBERS in spec["config"] and not combines:
        raise PollinateError(
            f"{path} is an ensemble, which has no weights of its own to merge; give its members, "
            "or use method=ensemble"
        )
    if spec["config"].get(MODEL) == LINEAR and not combines:
        raise PollinateError(
            f"{path} is a linear model, whose words and weights are its own; use method=ensemble"
        )
    require_training_config(spec, path)
    checksum = checkpoint_fingerprint([path, *shard_files(content, path)])
    return Parent(label, path, run_id_of(path), checksum, spec, WeightsFile(path, content))


def parent_labels(paths: Sequence[Path]) -> list[str]:
    """Return a short name for each: of its run folder, or of its file; numbered where two agree."""
    names = []
    for path in paths:
        folder = run_folder_of_checkpoint(path)
        names.append(path.stem if folder is None else folder.path.name)
    many = {name for name, count in Counter(names).items() if count > 1}
    seen: Counter[str] = Counter()
    found = []
    for name in names:
        seen[name] += 1
        found.append(f"{name}-{seen[name]}" if name in many else name)
    return found


def run_id_of(path: Path) -> str | None:
    folder = run_folder_of_checkpoint(path)
    if folder is None:
        return None
    run_id = folder.read_summary().get("run_id")
    return run_id if isinstance(run_id, str) else None
